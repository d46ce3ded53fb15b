/**
 * Where the newest version of each page of a snapshot stands in the WAL, read from the wal-index.
 *
 * Relies on: the snapshot is pinned (`ReadPin`, a guard, or the write lock), so that frames up to `mxFrame` and their
 * entries stay as they are.
 */
import { assert } from '../base/assert.ts'
import type { LiveFiles } from '../files/live-files.ts'
import {
  blockOfFrame,
  firstFrameOfBlock,
  HASHTABLE_NPAGE,
  HASHTABLE_NPAGE_ONE,
  WAL_INDEX_BLOCK_BYTES,
  WAL_INDEX_PREFIX_BYTES,
} from '../sqlite-format/wal-index.ts'

/**
 * Pages whose newest version up to `mxFrame` is in a frame above `backfilledFrames`, with that frame (from 1). Every other
 * page of the snapshot is current in the main file. Pages beyond the size of the snapshot may be among them.
 * @param mxFrame last frame of the snapshot
 * @param backfilledFrames frames already in the main file; 0 gives every page that has a frame
 */
export function livePageMap(files: LiveFiles, mxFrame: number, backfilledFrames: number): Map<number, number> {
  const map = new Map<number, number>()
  const memory = new ArrayBuffer(HASHTABLE_NPAGE * 4)
  const bytes = Buffer.from(memory)
  const entries = new Uint32Array(memory)
  let frame = backfilledFrames + 1
  while (frame <= mxFrame) {
    const block = blockOfFrame(frame)
    const first = firstFrameOfBlock(block)
    const capacity = block === 0 ? HASHTABLE_NPAGE_ONE : HASHTABLE_NPAGE
    const last = Math.min(mxFrame, first + capacity - 1)
    const start = block === 0 ? WAL_INDEX_PREFIX_BYTES : block * WAL_INDEX_BLOCK_BYTES
    const length = (last - frame + 1) * 4
    const position = start + (frame - first) * 4
    const got = files.disk.read('capture.read-page-map', files.shmFd, bytes, 0, length, position)
    assert(got === length, `${files.shmPath} ends before the entry of frame ${last}`)
    for (let i = 0; frame <= last; i++, frame++) {
      const pgno = entries[i]!
      assert(pgno !== 0, `${files.shmPath} has no entry for frame ${frame}`)
      map.set(pgno, frame)
    }
  }
  return map
}
