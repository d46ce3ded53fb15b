/**
 * A disk in memory that can lose power.
 *
 * What was not synced is lost in ways a real one may choose: a file keeps a prefix of its writes with the last one torn,
 * any subset of them with zeros where one is missing, or everything; changes of names likewise. A bomb makes the
 * disk die in the middle of the n-th change from now on, a write half done; from then on every call throws.
 */
import { ClusterError } from '../../errors/cluster-error.ts'
import type { Disk, FileIdentity } from '../../files/disk.ts'
import { interceptedDisk } from './intercepted-disk.ts'

type Change =
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'truncate'; readonly size: number }

type NameChange =
  | { readonly kind: 'create'; readonly name: string; readonly inode: Inode }
  | { readonly kind: 'remove'; readonly name: string }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string }

interface Inode {
  content: Buffer
  durable: Buffer
  unsynced: Change[]
}

export class PowerCutDisk implements Disk {
  #names = new Map<string, Inode>()
  #durableNames = new Map<string, Inode>()
  #unsyncedNames: NameChange[] = []
  readonly #descriptors = new Map<number, Inode>()
  #nextDescriptor = 3
  #bomb = Number.POSITIVE_INFINITY
  #isDead = false
  #boots = 0

  /** Dies at the n-th change from now on, from 0. */
  setBomb(changes: number): void {
    this.#bomb = changes
  }

  get isDead(): boolean {
    return this.#isDead
  }

  get openDescriptors(): number {
    return this.#descriptors.size
  }

  /** The disk for one process: of no use after the process ended. */
  forProcess(): Disk {
    const boots = this.#boots
    return interceptedDisk(this, (call) => {
      if (boots !== this.#boots) throw failed('EIO')
      return call.run()
    })
  }

  /** The process ends; the page cache stays. */
  restartProcess(): void {
    this.#boots++
    this.#descriptors.clear()
    this.#bomb = Number.POSITIVE_INFINITY
    this.#isDead = false
  }

  /** @param random numbers in [0, 1) that decide what is lost; when they are all 0, everything that can be */
  cutPower(random: () => number): void {
    this.restartProcess()
    const isSubset = random() > 0.5
    const prefix = Math.floor(random() * (this.#unsyncedNames.length + 1))
    const kept = this.#unsyncedNames.filter((_, i) => (isSubset ? random() < 0.7 : i < prefix))
    this.#names = new Map(this.#durableNames)
    for (const change of kept) applyName(this.#names, change)
    for (const inode of new Set(this.#names.values())) {
      inode.content = survivors(inode, random)
      inode.durable = inode.content
      inode.unsynced = []
    }
    this.#durableNames = new Map(this.#names)
    this.#unsyncedNames = []
  }

  open(_operation: string, file: string, flags: 'r' | 'r+' | 'w+' | 'wx+'): number {
    this.#requireAlive()
    let inode = this.#names.get(file)
    if (flags === 'r' || flags === 'r+') {
      if (inode === undefined) throw failed('ENOENT')
    } else if (inode === undefined) {
      this.#change()
      inode = { content: Buffer.alloc(0), durable: Buffer.alloc(0), unsynced: [] }
      this.#rename({ kind: 'create', name: file, inode })
    } else {
      if (flags === 'wx+') throw failed('EEXIST')
      this.#change()
      change(inode, { kind: 'truncate', size: 0 })
    }
    const fd = this.#nextDescriptor++
    this.#descriptors.set(fd, inode)
    return fd
  }

  close(_operation: string, fd: number): void {
    this.#inode(fd)
    this.#descriptors.delete(fd)
  }

  read(_op: string, fd: number, target: Uint8Array, offset: number, length: number, position: number): number {
    this.#requireAlive()
    const piece = this.#inode(fd).content.subarray(position, position + length)
    target.set(piece, offset)
    return piece.length
  }

  write(_op: string, fd: number, source: Uint8Array, offset: number, length: number, position: number): void {
    const inode = this.#inode(fd)
    const bytes = Buffer.from(source.subarray(offset, offset + length))
    try {
      this.#change()
    } catch (error) {
      change(inode, { kind: 'write', offset: position, bytes: bytes.subarray(0, bytes.length >> 1) })
      throw error
    }
    change(inode, { kind: 'write', offset: position, bytes })
  }

  async writeAside(
    operation: string,
    fd: number,
    source: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<void> {
    this.write(operation, fd, source, offset, length, position)
  }

  async dataSync(_operation: string, fd: number): Promise<void> {
    this.#change()
    const inode = this.#inode(fd)
    const { content } = inode
    const count = inode.unsynced.length
    const first = inode.unsynced[0]
    const boots = this.#boots
    await new Promise((resolve) => setImmediate(resolve))
    this.#requireAlive()
    if (boots !== this.#boots) throw failed('EIO')
    // Another sync was faster.
    if (count === 0 || inode.unsynced[0] !== first) return
    inode.durable = content
    inode.unsynced.splice(0, count)
  }

  dataSyncNow(_operation: string, fd: number): void {
    this.#change()
    const inode = this.#inode(fd)
    inode.durable = inode.content
    inode.unsynced = []
  }

  truncate(_operation: string, fd: number, size: number): void {
    this.#change()
    change(this.#inode(fd), { kind: 'truncate', size })
  }

  sizeBytes(_operation: string, fd: number): number {
    this.#requireAlive()
    return this.#inode(fd).content.length
  }

  identity(_operation: string, file: string): FileIdentity | undefined {
    this.#requireAlive()
    const inode = this.#names.get(file)
    return inode && { inode: 1n, sizeBytes: BigInt(inode.content.length), modifiedNs: 0n, changedNs: 0n }
  }

  rename(_operation: string, from: string, to: string): void {
    this.#change()
    const isDirectory = [...this.#names.keys()].some((file) => file.startsWith(`${from}/`))
    if (!this.#names.has(from) && !isDirectory) throw failed('ENOENT')
    this.#rename({ kind: 'rename', from, to })
  }

  remove(_operation: string, file: string): void {
    this.#change()
    if (this.#names.has(file)) this.#rename({ kind: 'remove', name: file })
  }

  makeDirectory(): void {
    this.#requireAlive()
  }

  removeDirectory(): void {
    this.#requireAlive()
  }

  list(_operation: string, directory: string): string[] {
    this.#requireAlive()
    const below = [...this.#names.keys()].filter((file) => file.startsWith(`${directory}/`))
    return [...new Set(below.map((file) => file.slice(directory.length + 1).split('/', 1)[0] ?? ''))].sort()
  }

  syncDirectory(): void {
    this.#change()
    this.#durableNames = new Map(this.#names)
    this.#unsyncedNames = []
  }

  readWhole(_operation: string, file: string): Buffer | undefined {
    this.#requireAlive()
    const inode = this.#names.get(file)
    return inode && Buffer.from(inode.content)
  }

  replaceDurably(operation: string, file: string, content: Uint8Array): void {
    const fd = this.open(operation, `${file}.tmp`, 'w+')
    this.write(operation, fd, content, 0, content.length, 0)
    this.dataSyncNow(operation, fd)
    this.close(operation, fd)
    this.rename(operation, `${file}.tmp`, file)
    this.syncDirectory()
  }

  #rename(nameChange: NameChange): void {
    applyName(this.#names, nameChange)
    this.#unsyncedNames.push(nameChange)
  }

  #inode(fd: number): Inode {
    const inode = this.#descriptors.get(fd)
    if (inode === undefined) throw failed('EBADF')
    return inode
  }

  #change(): void {
    this.#requireAlive()
    if (this.#bomb-- > 0) return
    this.#isDead = true
    throw failed('EIO')
  }

  #requireAlive(): void {
    if (this.#isDead) throw failed('EIO')
  }
}

function change(inode: Inode, what: Change): void {
  inode.content = applied(inode.content, what)
  inode.unsynced.push(what)
}

function applied(content: Buffer, what: Change): Buffer {
  if (what.kind === 'truncate') {
    const cut = Buffer.alloc(what.size)
    content.copy(cut)
    return cut
  }
  const grown = Buffer.alloc(Math.max(content.length, what.offset + what.bytes.length))
  content.copy(grown)
  what.bytes.copy(grown, what.offset)
  return grown
}

function applyName(names: Map<string, Inode>, nameChange: NameChange): void {
  if (nameChange.kind === 'create') names.set(nameChange.name, nameChange.inode)
  else if (nameChange.kind === 'remove') names.delete(nameChange.name)
  else {
    // A directory moves with everything in it.
    const below = [...names].filter(([file]) => file.startsWith(`${nameChange.from}/`))
    for (const [file, inode] of below) {
      names.delete(file)
      names.set(nameChange.to + file.slice(nameChange.from.length), inode)
    }
    const inode = names.get(nameChange.from)
    // Its creation was lost.
    if (inode === undefined) return
    names.delete(nameChange.from)
    names.set(nameChange.to, inode)
  }
}

function survivors({ durable, unsynced }: Inode, random: () => number): Buffer {
  const way = random()
  if (way > 0.7) return unsynced.reduce(applied, durable)
  if (way > 0.5) return unsynced.filter(() => random() < 0.7).reduce(applied, durable)
  const cut = Math.floor(random() * (unsynced.length + 1))
  const kept = unsynced.slice(0, cut).reduce(applied, durable)
  const torn = unsynced[cut]
  if (torn?.kind !== 'write') return kept
  return applied(kept, { ...torn, bytes: torn.bytes.subarray(0, Math.floor(random() * torn.bytes.length)) })
}

function failed(errno: string): ClusterError {
  return new ClusterError('STORAGE_FAILED', errno, { details: { errno } })
}
