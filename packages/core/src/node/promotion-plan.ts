/**
 * Whether a candidate may take office, and what it has to fetch first: decided from what the other nodes answered. Pure.
 *
 * Positions compare as (epoch of the last record, TXID), for each database by itself (design D12). Whoever has the largest among a majority of
 * voters has everything that was acknowledged at `majority`: any two majorities have a node in common, and whoever answered acknowledges
 * nothing older from then on.
 *
 * Without voters nobody can know what the nodes that do not answer have. The candidate must be current (it was the last one in office, or followed who
 * was until that one went away), or hear from every other member that it knows. Everything else would be a stale node that wins.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { Standing } from '../peer/candidacy.ts'
import type { Epoch } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'
import type { DatabaseStanding } from '../position/replica-report.ts'

export interface PromotionQuestion {
  readonly name: string
  /** Of the candidate's lease. */
  readonly epoch: Epoch
  /** Empty: it founds a cluster. */
  readonly clusterId: string
  readonly databases: readonly DatabaseStanding[]
  readonly answers: readonly Standing[]
  /** Members that did not answer, by name. */
  readonly silent: readonly string[]
  /** Empty: none are configured. */
  readonly voters: readonly string[]
  /** Nothing was committed that this node did not have in time. */
  readonly isCurrent: boolean
  /** An operator accepts that what others have is lost. */
  readonly acceptsLoss: boolean
}

/** What is to be fetched before office. */
export interface Pull {
  readonly database: string
  readonly from: Standing
  /** Where that node stands. */
  readonly to: Position
}

export interface PromotionPlan {
  readonly pulls: readonly Pull[]
  /** What an operator accepted; empty where nothing had to be. */
  readonly losses: readonly string[]
}

/** Throws `PROMOTION_REFUSED`. */
export function planPromotion(question: PromotionQuestion): PromotionPlan {
  const { acceptsLoss } = question
  requireNewest(question)
  requireOneCluster(question)
  const { pulls, unreachable } = planPulls(question)
  const losses = [...missingAnswers(question), ...unreachable]
  if (losses.length > 0 && !acceptsLoss) throw refused(question, losses)
  return { pulls, losses }
}

/** Whether the answers so far would do, so that nobody needs to wait for the rest. */
export function hasEnoughAnswers(question: PromotionQuestion): boolean {
  return missingAnswers(question).length === 0
}

function requireNewest({ name, epoch, answers }: PromotionQuestion): void {
  const newer = answers.find((answer) => !answer.promised)
  if (newer === undefined) return
  throw new ClusterError(
    'PROMOTION_REFUSED',
    `node "${name}" does not take office in epoch ${epoch}: node "${newer.nodeName}" has promised epoch ${newer.promisedEpoch} to another candidate`,
    { details: { node: name, epoch, peer: newer.nodeName, promisedEpoch: newer.promisedEpoch } },
  )
}

/** A node without a cluster must not found one beside a cluster that is there; it is led into that one by its primary. */
function requireOneCluster({ name, clusterId, answers }: PromotionQuestion): void {
  const other = answers.find((answer) => answer.clusterId !== '' && answer.clusterId !== clusterId)
  if (other === undefined) return
  const message =
    clusterId === ''
      ? `node "${name}" has not joined a cluster yet, and node "${other.nodeName}" is in one already: it takes no office before it has joined`
      : `node "${name}" is in cluster ${clusterId}, node "${other.nodeName}" in ${other.clusterId}`
  throw new ClusterError('PROMOTION_REFUSED', message, {
    details: { node: name, peer: other.nodeName, here: clusterId, there: other.clusterId },
  })
}

/** Whose word is missing; empty when nobody's is. */
function missingAnswers({ name, clusterId, voters, answers, silent, isCurrent }: PromotionQuestion): readonly string[] {
  if (voters.length > 0) {
    // A voter that has lost its data says nothing of what it acknowledged; in a new cluster nobody has any.
    const counted = answers.filter((answer) => answer.clusterId === clusterId).map((answer) => answer.nodeName)
    const missing = voters.filter((voter) => voter !== name && !counted.includes(voter))
    const needed = Math.floor(voters.length / 2) + 1
    const count = voters.length - missing.length
    return count >= needed ? [] : [`only ${count} of ${voters.length} voters answered, without ${missing.join(', ')}`]
  }
  if (isCurrent || silent.length === 0) return []
  return [`this node may be behind, and ${silent.join(', ')} did not answer`]
}

function planPulls(question: PromotionQuestion): {
  readonly pulls: readonly Pull[]
  readonly unreachable: readonly string[]
} {
  const { databases, answers } = question
  const pulls: Pull[] = []
  const unreachable: string[] = []
  const names = new Set(answers.flatMap((answer) => answer.databases.map(({ database }) => database)))
  for (const database of names) {
    const own = databases.find((standing) => standing.database === database)
    const offers = answers
      .flatMap((from) =>
        from.databases.filter((offer) => offer.database === database).map((offer) => ({ from, offer })),
      )
      .toSorted((a, b) => compare(b.offer, a.offer))
    const best = offers[0]!
    const source = offers.find(({ offer }) => offer.isWhole)
    const isCovered =
      (own !== undefined && compare(own, best.offer) >= 0) ||
      (source !== undefined && compare(source.offer, best.offer) >= 0) ||
      soundVotersAreMajority(question, database)
    if (!isCovered)
      unreachable.push(`node "${best.from.nodeName}" has more of database "${database}", and cannot give it now`)
    if (source !== undefined && isWanted(source.offer, own))
      pulls.push({ database, from: source.from, to: source.offer.durable })
  }
  return { pulls, unreachable }
}

/** What a majority acknowledged is then on one of those that can give it, whatever one that cannot has beyond that. */
function soundVotersAreMajority({ name, clusterId, voters, answers }: PromotionQuestion, database: string): boolean {
  const sound = answers
    .filter((answer) => answer.clusterId === clusterId)
    .filter((answer) => answer.databases.every((offer) => offer.database !== database || offer.isWhole))
    .map((answer) => answer.nodeName)
  const count = voters.filter((voter) => voter === name || sound.includes(voter)).length
  return voters.length > 0 && count > voters.length / 2
}

function isWanted(offer: DatabaseStanding, own: DatabaseStanding | undefined): boolean {
  if (offer.durable.txid === 0n) return false
  if (own === undefined) return true
  return own.isWhole ? compare(offer, own) > 0 : compare(offer, own) >= 0
}

/** Negative: `a` is behind `b`. */
export function compare(
  a: Pick<DatabaseStanding, 'epoch' | 'durable'>,
  b: Pick<DatabaseStanding, 'epoch' | 'durable'>,
): number {
  if (a.epoch !== b.epoch) return a.epoch - b.epoch
  return a.durable.txid < b.durable.txid ? -1 : a.durable.txid > b.durable.txid ? 1 : 0
}

function refused({ name, epoch, silent }: PromotionQuestion, losses: readonly string[]): ClusterError {
  return new ClusterError(
    'PROMOTION_REFUSED',
    `node "${name}" does not take office in epoch ${epoch}: ${losses.join('; ')}`,
    {
      details: { node: name, epoch, losses, silent },
      hint: 'Start the nodes that are missing. If they are gone for good: litefleet promote --accept-loss, on the node that shall be the primary.',
    },
  )
}
