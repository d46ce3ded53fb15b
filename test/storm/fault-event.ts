/** One fault of a schedule, as data: what happens to whom, when, and for how long. */
import type { CrashMoment, DiskMethod } from '../support/fault-disk.ts'

export type FaultEvent = {
  readonly atMs: number
  /** Whom the schedule takes for the primary then. Where nodes elect, it is another one: it stands for that. */
  readonly primary: number
} & Fault

export type Fault =
  /** SIGKILL, and a start after a while. */
  | { readonly kind: 'kill'; readonly node: number; readonly downMs: number }
  /** SIGSTOP, and SIGCONT after a while. */
  | { readonly kind: 'pause'; readonly node: number; readonly forMs: number }
  /** SIGKILL in the middle of a disk operation that is still to come. */
  | { readonly kind: 'crash'; readonly node: number; readonly at: CrashPoint; readonly downMs: number }
  /** SIGKILL, and another one in the middle of the start that follows. */
  | { readonly kind: 'crash-in-start'; readonly node: number; readonly at: CrashPoint; readonly downMs: number }
  | { readonly kind: 'disk'; readonly node: number; readonly failure: DiskFailure; readonly forMs: number }
  | { readonly kind: 'link'; readonly pairs: readonly Pair[]; readonly trouble: LinkTrouble; readonly forMs: number }
  /** The wall clock of a node jumps. */
  | { readonly kind: 'skew'; readonly node: number; readonly skewMs: number }
  /** A clean stop, and a start after a while: longer than the log is kept, for a node that is to be seeded again. */
  | { readonly kind: 'restart' | 'absence'; readonly node: number; readonly downMs: number }
  | Move

/**
 * Another node is the primary from now on.
 *
 * - `planned`: nobody writes, the new one has everything, all are stopped in good order and started again;
 * - `brutal`: the primary is killed, another one takes its place though it may lag;
 * - `stale`: the old primary goes on as one beside the new one for a while: because it was started as such again by mistake, because
 *   it was frozen while the others were moved, or because nobody told it.
 */
export type Move =
  | { readonly kind: 'move'; readonly how: 'planned' | 'brutal'; readonly to: number; readonly downMs: number }
  | {
      readonly kind: 'move'
      readonly how: 'stale'
      readonly why: 'restarted' | 'frozen' | 'untold'
      readonly to: number
      readonly downMs: number
      readonly besideMs: number
      /** Another node follows the old primary meanwhile. */
      readonly hasFollower: boolean
    }

export interface CrashPoint {
  readonly operation: string
  readonly when: CrashMoment
  readonly occurrence: number
}

export interface DiskFailure {
  readonly operation: string
  readonly methods: readonly DiskMethod[] | undefined
  readonly errno: string
  readonly isShort: boolean
  readonly times: number | 'always'
}

/** The link on which the first node reaches the second one. */
export type Pair = readonly [from: number, to: number]

export interface LinkTrouble {
  readonly how: 'cut' | 'drop' | 'hang' | 'hang-out' | 'hang-in' | 'delay' | 'throttle'
  readonly wire: 'grpc' | 'http' | 'both'
  /** Ms of a delay, bytes per second of a throttle. */
  readonly amount: number
}

/** The same fault with two nodes in each other's place. */
export function exchanged(fault: Fault, a: number, b: number): Fault {
  const of = (node: number): number => (node === a ? b : node === b ? a : node)
  switch (fault.kind) {
    case 'link':
      return { ...fault, pairs: fault.pairs.map(([from, to]): Pair => [of(from), of(to)]) }
    case 'move':
      return { ...fault, to: of(fault.to) }
    default:
      return { ...fault, node: of(fault.node) }
  }
}

/** The name under which a fault is counted. */
export function kindOf(fault: Fault): string {
  switch (fault.kind) {
    case 'disk':
      return `disk ${fault.failure.isShort ? 'short write' : fault.failure.errno}${isSync(fault.failure) ? ' on sync' : ''}`
    case 'link':
      return `link ${fault.trouble.how}`
    case 'move':
      return fault.how === 'stale' ? `move stale ${fault.why}` : `move ${fault.how}`
    default:
      return fault.kind
  }
}

/** In a line. */
export function describeFault(fault: Fault): string {
  switch (fault.kind) {
    case 'kill':
      return `node ${fault.node} is killed, down for ${fault.downMs} ms`
    case 'pause':
      return `node ${fault.node} stands still for ${fault.forMs} ms`
    case 'crash':
      return `node ${fault.node} dies ${describePoint(fault.at)}, down for ${fault.downMs} ms`
    case 'crash-in-start':
      return `node ${fault.node} is killed, and dies in its start ${describePoint(fault.at)}`
    case 'disk':
      return `node ${fault.node}: ${describeFailure(fault.failure)} for ${fault.forMs} ms`
    case 'link': {
      const { trouble, pairs, forMs } = fault
      const amount = trouble.how === 'delay' || trouble.how === 'throttle' ? ` ${trouble.amount}` : ''
      const where = pairs.map(([from, to]) => `${from}>${to}`).join(' ')
      return `links ${where}: ${trouble.how}${amount} (${trouble.wire}) for ${forMs} ms`
    }
    case 'skew':
      return `the wall clock of node ${fault.node} is off by ${fault.skewMs} ms`
    case 'restart':
    case 'absence':
      return `node ${fault.node} is stopped in good order for ${fault.downMs} ms`
    default: {
      if (fault.how !== 'stale') {
        if (fault.how === 'planned') return `node ${fault.to} becomes the primary in good order`
        return `the primary is killed, node ${fault.to} takes its place, the old one is down for ${fault.downMs} ms`
      }
      const follower = fault.hasFollower ? ', with a follower' : ''
      return `node ${fault.to} takes the primary's place, the old one (${fault.why}) goes on beside it for ${fault.besideMs} ms${follower}`
    }
  }
}

function describePoint({ operation, when, occurrence }: CrashPoint): string {
  return `${when} ${operation} (call ${occurrence} from now)`
}

function describeFailure({ operation, errno, isShort, times }: DiskFailure): string {
  return `${operation} ${isShort ? 'writes half and fails' : 'fails'} with ${errno} (${times === 'always' ? 'each' : times})`
}

function isSync({ methods }: DiskFailure): boolean {
  return methods?.includes('dataSync') ?? false
}
