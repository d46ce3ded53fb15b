/**
 * From a seed to the faults of a storm. Pure: the same seed and number of nodes give the same schedule, and a shorter one is the beginning
 * of a longer one. What then happens between the faults is up to the machine.
 *
 * It knows who is the primary at each moment, because it moves it itself.
 */
import { crashMoments, type DiskMethod, GROWING, SYNCING } from '../support/fault-disk.ts'
import { Random } from '../support/random.ts'
import type { CrashPoint, DiskFailure, Fault, FaultEvent, LinkTrouble, Move, Pair } from './fault-event.ts'

export interface Schedule {
  readonly seed: number
  readonly nodes: number
  readonly durationMs: number
  /** Logs are kept so short that a node that was away must be seeded again. */
  readonly isRetentionShort: boolean
  readonly events: readonly FaultEvent[]
}

/** How often each kind is drawn. */
const WEIGHTS = {
  kill: 16,
  pause: 12,
  crash: 14,
  'crash-in-start': 6,
  disk: 12,
  link: 22,
  skew: 5,
  restart: 5,
  absence: 3,
  move: 9,
} as const

const GAP_MEAN_MS = 1_200
const GAP_MAX_MS = 5_000
/** So that a move has a history to move. */
const FIRST_MOVE_MS = 4_000
const SKEW_MAX_MS = 10 * 60_000

type Points = readonly (readonly [operation: string, method: DiskMethod, occurrences: number])[]

const LOG_CRASH_POINTS: Points = [
  ['log.append', 'write', 30],
  ['log.new-segment', 'write', 2],
  ['log.prune', 'remove', 2],
]
const PRIMARY_CRASH_POINTS: Points = [
  ...LOG_CRASH_POINTS,
  ['log.sync', 'dataSyncNow', 2],
  ['capture.read-pages', 'read', 60],
  ['capture.read-frame-header', 'read', 60],
  ['capture.sync-wal', 'dataSyncNow', 1],
  ['snapshot.*', 'write', 1],
]
const REPLICA_CRASH_POINTS: Points = [
  ...LOG_CRASH_POINTS,
  ['log.sync', 'dataSync', 20],
  ['apply.write-frames', 'write', 30],
  ['apply.write-frames', 'write', 30],
  ['apply.write-index', 'write', 30],
  ['apply.write-index', 'write', 30],
  ['apply.write-wal-header', 'write', 1],
  ['apply.restart-info', 'write', 1],
  ['apply.limit-backfill', 'write', 2],
]
/** Also of a node that is seeded again as it comes back. */
const START_CRASH_POINTS: Points = [
  ['log.*', 'write', 2],
  ['log.*', 'truncate', 1],
  ['log.epochs', 'replaceDurably', 1],
  ['identity.*', 'replaceDurably', 1],
  ['apply.*', 'write', 6],
  ['capture.*', 'read', 8],
  ['database-file.*', 'identity', 3],
  ['log.open', 'read', 3],
  ['log.reset', 'rename', 1],
  ['divergence.*', 'replaceDurably', 2],
  ['divergence.keep', 'rename', 1],
  ['snapshot.receive-write', 'writeAside', 1],
  ['seed.*', 'replaceDurably', 1],
  ['seed.read-spool', 'read', 2],
]

export function drawSchedule(seed: number, nodes: number, durationMs: number): Schedule {
  const random = new Random(seed)
  const isRetentionShort = random.below(2) === 0
  const drawing = new Drawing(random, nodes)
  const events: FaultEvent[] = []
  let atMs = 500
  while (atMs < durationMs) {
    const { primary } = drawing
    events.push({ atMs: Math.round(atMs), primary, ...drawing.draw(atMs) })
    atMs += Math.min(GAP_MAX_MS, -Math.log(1 - random.next()) * GAP_MEAN_MS)
  }
  return { seed, nodes, durationMs, isRetentionShort, events }
}

class Drawing {
  readonly #random: Random
  readonly #nodes: number
  #primary = 0

  constructor(random: Random, nodes: number) {
    this.#random = random
    this.#nodes = nodes
  }

  /** As moved so far. */
  get primary(): number {
    return this.#primary
  }

  draw(atMs: number): Fault {
    const kind = this.#kind(atMs < FIRST_MOVE_MS)
    switch (kind) {
      case 'kill':
        return { kind, node: this.#node(), downMs: this.#ms(0, 3_000) }
      case 'pause':
        return { kind, node: this.#node(), forMs: this.#ms(100, 8_000) }
      case 'crash': {
        const node = this.#node()
        const points = node === this.#primary ? PRIMARY_CRASH_POINTS : REPLICA_CRASH_POINTS
        return { kind, node, at: this.#point(points), downMs: this.#ms(0, 2_000) }
      }
      case 'crash-in-start':
        return { kind, node: this.#node(), at: this.#point(START_CRASH_POINTS), downMs: this.#ms(0, 500) }
      case 'disk':
        return { kind, node: this.#node(), failure: this.#diskFailure(), forMs: this.#ms(200, 3_000) }
      case 'link':
        return { kind, pairs: this.#pairs(), trouble: this.#linkTrouble(), forMs: this.#ms(300, 9_000) }
      case 'skew':
        return { kind, node: this.#random.below(this.#nodes), skewMs: this.#skewMs() }
      case 'restart':
        return { kind, node: this.#node(), downMs: this.#ms(0, 2_000) }
      case 'absence':
        return { kind, node: this.#other(this.#primary), downMs: this.#ms(4_000, 8_000) }
      default:
        return this.#move()
    }
  }

  #kind(isEarly: boolean): keyof typeof WEIGHTS {
    const kinds = Object.entries(WEIGHTS) as [keyof typeof WEIGHTS, number][]
    let roll = this.#random.below(kinds.reduce((sum, [, weight]) => sum + weight, 0))
    for (const [kind, weight] of kinds) {
      roll -= weight
      if (roll < 0) return isEarly && kind === 'move' ? 'kill' : kind
    }
    return 'kill'
  }

  /** The primary more often than another one. */
  #node(): number {
    return this.#random.below(100) < 45 ? this.#primary : this.#random.below(this.#nodes)
  }

  #other(than: number): number {
    return (than + 1 + this.#random.below(this.#nodes - 1)) % this.#nodes
  }

  /** Short ones are more frequent than long ones. */
  #ms(min: number, max: number): number {
    return Math.round(min + (max - min) * this.#random.next() ** 2)
  }

  #point(points: Points): CrashPoint {
    const [operation, method, occurrences] = this.#random.pick(points)
    return {
      operation,
      when: this.#random.pick(crashMoments(method)),
      occurrence: 1 + this.#random.below(occurrences),
    }
  }

  #diskFailure(): DiskFailure {
    const times = 1 + this.#random.below(3)
    switch (this.#random.below(4)) {
      case 0:
        return { operation: '*', methods: GROWING, errno: 'ENOSPC', isShort: false, times: 'always' }
      case 1: {
        const operation = this.#random.pick(['log.append', 'log.*', 'apply.*', 'snapshot.*', '*'])
        return { operation, methods: ['write', 'writeAside'], errno: 'EIO', isShort: false, times }
      }
      case 2: {
        const operation = this.#random.pick(['log.append', 'apply.write-frames', 'apply.write-index', '*'])
        return { operation, methods: ['write'], errno: 'ENOSPC', isShort: true, times }
      }
      default:
        return { operation: '*', methods: SYNCING, errno: 'EIO', isShort: false, times }
    }
  }

  /** One direction of dialling between two nodes, or everything of one node. */
  #pairs(): readonly Pair[] {
    if (this.#random.below(3) === 0) {
      const alone = this.#node()
      const others = Array.from({ length: this.#nodes }, (_, node) => node).filter((node) => node !== alone)
      return others.flatMap((other): Pair[] => [
        [alone, other],
        [other, alone],
      ])
    }
    // Replicas dial the primary; the other links carry nothing most of the time.
    if (this.#random.below(4) > 0) return [[this.#other(this.#primary), this.#primary]]
    const from = this.#random.below(this.#nodes)
    return [[from, this.#other(from)]]
  }

  #linkTrouble(): LinkTrouble {
    const how = this.#random.pick(['cut', 'drop', 'hang', 'hang-out', 'hang-in', 'delay', 'throttle'] as const)
    const wire = this.#random.pick(['grpc', 'http', 'both', 'both'] as const)
    const amount = how === 'delay' ? this.#ms(20, 400) : this.#ms(10_000, 200_000)
    return { how, wire, amount }
  }

  #skewMs(): number {
    if (this.#random.below(4) === 0) return 0
    const distance = this.#ms(500, SKEW_MAX_MS)
    return this.#random.below(2) === 0 ? distance : -distance
  }

  #move(): Move {
    const to = this.#other(this.#primary)
    this.#primary = to
    const downMs = this.#ms(0, 3_000)
    const roll = this.#random.below(10)
    if (roll < 3) return { kind: 'move', how: 'planned', to, downMs }
    if (roll < 6) return { kind: 'move', how: 'brutal', to, downMs }
    return {
      kind: 'move',
      how: 'stale',
      why: this.#random.pick(['restarted', 'frozen', 'untold']),
      to,
      downMs,
      besideMs: this.#ms(500, 5_000),
      hasFollower: this.#nodes > 2 && this.#random.below(2) === 0,
    }
  }
}
