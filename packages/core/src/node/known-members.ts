/**
 * Who belongs to the cluster, as far as this node ever heard: kept on disk, so that a candidate that was just started knows whom to ask.
 *
 * Members are those of the last list that a primary told, or made itself. Who was in a list before and is not any more is remembered too, to be asked,
 * but nobody waits for its word: it went away while a primary was there.
 * Bound: `KNOWN_MAX` nodes; those that left longest ago are forgotten first, voters never.
 */
import type { Disk } from '../files/disk.ts'
import type { Members } from '../peer/members.ts'

export interface KnownMember {
  readonly name: string
  /** `host:port`. */
  readonly grpcAddress: string
  /** In the last list. */
  readonly isMember: boolean
}

const KNOWN_MAX = 64

export interface KnownMembersParts {
  readonly disk: Disk
  readonly file: string
  readonly voters: readonly string[]
  readonly members: Members
  /** What could not be kept. */
  onFailure(error: unknown): void
}

export class KnownMembers {
  readonly #parts: KnownMembersParts
  readonly #stop: () => void
  #known: readonly KnownMember[]

  constructor(parts: KnownMembersParts) {
    this.#parts = parts
    this.#known = parse(parts.disk.readWhole('identity.read-members', parts.file)?.toString() ?? '')
    this.#stop = parts.members.onChange(() => this.#changed())
  }

  /** This node is not among them. */
  get all(): readonly KnownMember[] {
    return this.#known
  }

  /** The primary that this node follows, which may go away before it told who else there is. */
  follows(name: string, grpcAddress: string): void {
    const isKnown = this.#known.some((one) => one.name === name && one.grpcAddress === grpcAddress && one.isMember)
    if (!isKnown) this.#keep([{ name, grpcAddress, isMember: true }, ...this.#known.filter((one) => one.name !== name)])
  }

  close(): void {
    this.#stop()
  }

  #changed(): void {
    const { members } = this.#parts
    const { nodeName } = members.self
    const listed = members
      .all()
      .filter((member) => member.nodeName !== nodeName)
      .map((member): KnownMember => ({ name: member.nodeName, grpcAddress: member.grpcAddress, isMember: true }))
    const left = this.#known
      .filter(({ name }) => name !== nodeName && !listed.some((member) => member.name === name))
      .map((member): KnownMember => ({ ...member, isMember: false }))
    this.#keep([...listed, ...this.#bounded(left, KNOWN_MAX - listed.length)])
  }

  #keep(next: readonly KnownMember[]): void {
    if (JSON.stringify(next) === JSON.stringify(this.#known)) return
    const { disk, file, onFailure } = this.#parts
    this.#known = next
    try {
      disk.replaceDurably('identity.write-members', file, Buffer.from(`${JSON.stringify(next)}\n`))
    } catch (error) {
      onFailure(error)
    }
  }

  /** The newest are first. */
  #bounded(left: readonly KnownMember[], room: number): readonly KnownMember[] {
    const { voters } = this.#parts
    return left.filter(({ name }, i) => i < room || voters.includes(name))
  }
}

/** What cannot be read says nothing: it is told again by the next primary. */
function parse(text: string): readonly KnownMember[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return []
  }
  return Array.isArray(value) ? value.filter(isKnownMember) : []
}

function isKnownMember(value: unknown): value is KnownMember {
  if (typeof value !== 'object' || value === null) return false
  const { name, grpcAddress, isMember } = value as Record<string, unknown>
  return typeof name === 'string' && typeof grpcAddress === 'string' && typeof isMember === 'boolean'
}
