/** Inputs that were findings once, kept in `findings/<target>/`, to be replayed for ever. */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'

export const FINDINGS_DIRECTORY = path.join(import.meta.dirname, 'findings')

export interface KeptInput {
  readonly target: string
  readonly name: string
  readonly input: Buffer
}

export function keptInputs(): readonly KeptInput[] {
  const targets = fs.existsSync(FINDINGS_DIRECTORY) ? fs.readdirSync(FINDINGS_DIRECTORY).sort() : []
  return targets.flatMap((target) => {
    const directory = path.join(FINDINGS_DIRECTORY, target)
    const names = fs.readdirSync(directory).sort()
    return names.map((name) => ({ target, name, input: fs.readFileSync(path.join(directory, name)) }))
  })
}

/** Keeps an input and answers its path. */
export function keepInput(target: string, kind: string, input: Buffer): string {
  const directory = path.join(FINDINGS_DIRECTORY, target)
  fs.mkdirSync(directory, { recursive: true })
  const file = path.join(directory, `${kind}-${createHash('sha256').update(input).digest('hex').slice(0, 12)}.bin`)
  fs.writeFileSync(file, input)
  return file
}
