/** Every decoder of the product that takes bytes from outside. */
import type { FuzzTarget } from '../target.ts'
import { fileTargets } from './files.ts'
import { logTargets } from './log.ts'
import { ltxTargets } from './ltx.ts'
import { misbehavingTargets } from './misbehaving.ts'
import { peerTargets } from './peer.ts'
import { reportTargets } from './reports.ts'
import { sqliteFileTargets } from './sqlite-files.ts'
import { streamTargets } from './stream.ts'
import { textTargets } from './texts.ts'
import { valueTargets } from './values.ts'

export const TARGETS: readonly FuzzTarget[] = [
  ...sqliteFileTargets,
  ...ltxTargets,
  ...logTargets,
  ...reportTargets,
  ...streamTargets,
  ...valueTargets,
  ...peerTargets,
  ...textTargets,
  ...fileTargets,
]

export function targetNamed(name: string): FuzzTarget {
  const target = [...TARGETS, ...misbehavingTargets].find((candidate) => candidate.name === name)
  if (target === undefined)
    throw new Error(`no fuzz target "${name}"; there are: ${TARGETS.map((each) => each.name).join(', ')}`)
  return target
}
