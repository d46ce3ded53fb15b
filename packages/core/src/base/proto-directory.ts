/** Where the protocol files are. */
import { fileURLToPath } from 'node:url'

/**
 * Sources are run from the repository, whose `proto/` is the original. The published package is compiled and has a copy in its own
 * `proto/`. Which of the two this file belongs to shows in its own name; probing both would let a stale copy win.
 */
export function protoDirectory(): string {
  const isSource = import.meta.url.endsWith('.ts')
  return fileURLToPath(new URL(isSource ? '../../../../proto' : '../../proto', import.meta.url))
}
