/**
 * The index blocks of a replica's wal-index: a copy in memory and how entries get from it into the `-shm` file.
 *
 * Every process that has the database open maps that file and may search it at any moment, so each write must leave it
 * searchable for readers of older versions. They skip entries above their last frame, therefore:
 * Order: page numbers first, then the hash slots; a block's first entry makes us write the whole block, which wipes what
 * an earlier generation left there. The frames become visible only afterwards, by the header (see wal-tail.ts).
 *
 * Slots are written as aligned units of eight bytes (their neighbours with the values they have): the kernel copies such
 * a unit at once, while two lone bytes may land one after the other, and a reader that saw half a slot could take it for
 * an older frame of its page.
 *
 * Relies on: the write lock; nobody else writes entries.
 * After a crash: entries above the published last frame are remains. `load` clears them, as SQLite's own writers do.
 */
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { LiveFiles } from '../files/live-files.ts'
import {
  blockOfFrame,
  firstFrameOfBlock,
  HASHTABLE_OFFSET,
  WAL_INDEX_BLOCK_BYTES,
  WalIndexBlock,
} from '../sqlite-format/wal-index.ts'

const UNIT_BYTES = 8
const HASHTABLE_BYTES = WAL_INDEX_BLOCK_BYTES - HASHTABLE_OFFSET
/** From so many units on, one write of the whole hash table is cheaper than one for each. */
const WHOLE_TABLE_UNITS = 4
/** Largest page of memory of any supported kernel: SQLite maps the index in whole ones, so the file must fill them. */
const MEMORY_PAGE_BYTES = 65536

export class WalIndexMirror {
  readonly #files: LiveFiles
  #blocks: WalIndexBlock[] = []
  readonly #units: number[] = []

  constructor(files: LiveFiles) {
    this.#files = files
  }

  /**
   * Reads the blocks that hold frames 1 … `mxFrame` and clears what stands above it, in memory and in the file.
   * @throws ClusterError `CORRUPT_DATA` when the file does not hold them, or a block could take no more entries
   */
  load(mxFrame: number): void {
    const { disk, shmFd } = this.#files
    this.#blocks = []
    if (mxFrame === 0) return
    const last = blockOfFrame(mxFrame)
    const content = Buffer.alloc(WAL_INDEX_BLOCK_BYTES)
    for (let index = 0; index <= last; index++) {
      const count = disk.read('apply.read-index', shmFd, content, 0, content.length, index * content.length)
      if (count < content.length) throw this.#damaged(`block ${index} has ${count} bytes`)
      this.#blocks.push(new WalIndexBlock(index, content))
    }
    const block = this.#blocks[last]!
    const limit = mxFrame - firstFrameOfBlock(last) + 1
    const isCleared = block.clearAbove(limit)
    if (block.usedSlots > limit) throw this.#damaged(`block ${last} has more slots in use than frames`)
    if (!isCleared) return
    // Slots before page numbers, so that no slot ever leads to an entry that is gone already.
    this.#write('apply.clean-index', block, HASHTABLE_OFFSET, HASHTABLE_BYTES)
    const entriesEnd = block.entryOffset(limit + 1)
    if (entriesEnd < HASHTABLE_OFFSET)
      this.#write('apply.clean-index', block, entriesEnd, HASHTABLE_OFFSET - entriesEnd)
  }

  /** The WAL begins anew at frame 1. The file is left as it is: no reader looks above frame 0. */
  restart(): void {
    this.#blocks.length = Math.min(this.#blocks.length, 1)
  }

  /** Enters frames `firstFrame` … of these pages, in memory and in the file. After an error the mirror is of no use. */
  append(firstFrame: number, pgnos: Uint32Array, count: number): void {
    for (let done = 0; done < count; ) {
      const frame = firstFrame + done
      const index = blockOfFrame(frame)
      const entry = frame - firstFrameOfBlock(index) + 1
      const block = entry === 1 ? this.#fresh(index) : this.#blocks[index]
      assert(block !== undefined, `wal-index block ${index} is not mirrored`)
      const here = Math.min(count - done, block.capacity - entry + 1)
      this.#units.length = 0
      for (let i = 0; i < here; i++) this.#noteUnit(block.insert(entry + i, pgnos[done + i]!))
      if (entry === 1) this.#writeFresh(block)
      else this.#writeAdded(block, entry, here)
      done += here
    }
  }

  #fresh(index: number): WalIndexBlock {
    const known = this.#blocks[index]
    if (known !== undefined) {
      known.clear()
      return known
    }
    assert(index === this.#blocks.length, `wal-index block ${index} after block ${this.#blocks.length - 1}`)
    const block = new WalIndexBlock(index)
    this.#blocks.push(block)
    return block
  }

  #writeFresh(block: WalIndexBlock): void {
    const { disk, shmFd } = this.#files
    const start = block.entryOffset(1)
    this.#write('apply.write-index', block, start, WAL_INDEX_BLOCK_BYTES - start)
    const end = block.fileOffset + WAL_INDEX_BLOCK_BYTES
    const padding = (MEMORY_PAGE_BYTES - (end % MEMORY_PAGE_BYTES)) % MEMORY_PAGE_BYTES
    if (padding === 0 || disk.sizeBytes('apply.write-index', shmFd) >= end + padding) return
    disk.write('apply.write-index', shmFd, Buffer.alloc(padding), 0, padding, end)
  }

  #writeAdded(block: WalIndexBlock, entry: number, count: number): void {
    this.#write('apply.write-index', block, block.entryOffset(entry), count * 4)
    if (this.#units.length > WHOLE_TABLE_UNITS) {
      this.#write('apply.write-index', block, HASHTABLE_OFFSET, HASHTABLE_BYTES)
      return
    }
    for (const unit of this.#units) this.#write('apply.write-index', block, unit * UNIT_BYTES, UNIT_BYTES)
  }

  #noteUnit(slot: number): void {
    const units = this.#units
    if (units.length > WHOLE_TABLE_UNITS) return
    const unit = (HASHTABLE_OFFSET + slot * 2) >>> 3
    if (!units.includes(unit)) units.push(unit)
  }

  #damaged(reason: string): ClusterError {
    return new ClusterError('CORRUPT_DATA', `${this.#files.shmPath}: ${reason}`, {
      details: { file: this.#files.shmPath },
      hint: 'Restart the node: SQLite rebuilds the wal-index when the database is opened.',
    })
  }

  #write(operation: string, block: WalIndexBlock, offset: number, length: number): void {
    this.#files.disk.write(operation, this.#files.shmFd, block.bytes, offset, length, block.fileOffset + offset)
  }
}
