/** The `litefs` program: found, and of a version that is known. */
import { ClusterError } from '@litefleet/core'
import { execa } from 'execa'
import { accessSync, constants } from 'node:fs'
import path from 'node:path'

export const LITEFS_VARIABLE = 'LITEFLEET_LITEFS_BIN'

const INSTALL = 'Install it: go install github.com/superfly/litefs/cmd/litefs@v0.5.14'
const VERSION_TIMEOUT_MS = 10_000

/**
 * What the variable names, else what is on the PATH.
 * @throws ClusterError `INVALID_OPTION`
 */
export function findLiteFs(env: NodeJS.ProcessEnv): string {
  const named = env[LITEFS_VARIABLE]
  if (named !== undefined && named !== '') {
    if (isProgram(named)) return named
    throw new ClusterError('INVALID_OPTION', `${LITEFS_VARIABLE} names ${named}, which cannot be run`, {
      hint: INSTALL,
    })
  }
  const directories = (env['PATH'] ?? '').split(path.delimiter).filter((directory) => directory !== '')
  const found = directories.map((directory) => path.join(directory, 'litefs')).find(isProgram)
  if (found !== undefined) return found
  throw new ClusterError('INVALID_OPTION', 'there is no litefs program on the PATH', {
    hint: `${INSTALL}, or name it in ${LITEFS_VARIABLE}.`,
  })
}

/**
 * Answers what the program says of itself.
 * @throws ClusterError `INVALID_OPTION` when it is of another version than 0.5
 */
export async function checkLiteFs(program: string): Promise<string> {
  const { stdout, failed } = await execa(program, ['version'], { reject: false, timeout: VERSION_TIMEOUT_MS })
  const said = stdout.trim().split('\n', 1)[0] ?? ''
  if (failed || !said.startsWith('LiteFS')) {
    throw new ClusterError('INVALID_OPTION', `${program} does not say that it is LiteFS`, { hint: INSTALL })
  }
  requireKnownVersion(said)
  return said
}

/** A build from source without flags has no version; it is taken for the one that was asked for. */
export function requireKnownVersion(said: string): void {
  const [, version, minor] = /v?(\d+\.(\d+)\.\d+)/.exec(said) ?? []
  if (version === undefined || (version.startsWith('0.') && minor === '5')) return
  throw new ClusterError('INVALID_OPTION', `LiteFS ${version} is not known here; 0.5 is`, { hint: INSTALL })
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
