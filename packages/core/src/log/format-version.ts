/**
 * Files of a newer version than this one knows. They are whole, so they are refused and left as they are: taken for damaged they
 * would be cut off or removed, and a downgrade would lose what they hold.
 *
 * Relies on: every version of a format keeps its first 8 bytes (magic, version) and the place of the checksum over them, so
 * that a newer file can be told from one whose version field was hit by a flipped bit.
 */
import { ClusterError } from '../errors/cluster-error.ts'

/** @param newest the newest version that can be read; all older ones can, too */
export function requireKnownVersion(file: string, found: number, newest: number): void {
  if (found <= newest) return
  throw new ClusterError(
    'UNSUPPORTED_FORMAT',
    `${file} has format version ${found}; this version reads up to ${newest}`,
    {
      details: { file, found, newest },
      hint: 'Start the version of Litefleet that wrote it, or a newer one. Nothing was changed.',
    },
  )
}
