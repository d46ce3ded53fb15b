import { describe, expect, test } from 'vitest'
import type { Standing } from '../peer/candidacy.ts'
import { checksum } from '../position/checksum.ts'
import { epoch } from '../position/epoch.ts'
import type { DatabaseStanding } from '../position/replica-report.ts'
import { txid } from '../position/txid.ts'
import { hasEnoughAnswers, planPromotion, type PromotionQuestion } from './promotion-plan.ts'

const CLUSTER = 'LFSC0000000000000001'

function standing(at: readonly [number, number], more: Partial<DatabaseStanding> = {}): DatabaseStanding {
  const position = { txid: txid(BigInt(at[1])), checksum: checksum(BigInt(at[1]) + 2n ** 63n) }
  return { database: 'app.db', epoch: epoch(at[0]), durable: position, applied: position, isWhole: true, ...more }
}

function answer(name: string, databases: readonly DatabaseStanding[], more: Partial<Standing> = {}): Standing {
  return {
    clusterId: CLUSTER,
    nodeName: name,
    nodeId: name,
    httpUrl: `http://${name}`,
    promised: true,
    promisedEpoch: epoch(9),
    databases,
    ...more,
  }
}

function question(more: Partial<PromotionQuestion>): PromotionQuestion {
  return {
    name: 'a',
    epoch: epoch(9),
    clusterId: CLUSTER,
    databases: [standing([3, 10])],
    answers: [],
    silent: [],
    voters: [],
    isCurrent: false,
    acceptsLoss: false,
    ...more,
  }
}

const refusal = (message: RegExp) =>
  expect.objectContaining({ code: 'PROMOTION_REFUSED', message: expect.stringMatching(message) as string })
const pulled = (more: Partial<PromotionQuestion>) =>
  planPromotion(question(more)).pulls.map(({ database, from, to }) => [database, from.nodeName, Number(to.txid)])

describe('what is fetched', () => {
  test('nothing from who has less, or the same', () => {
    expect(pulled({ answers: [answer('b', [standing([3, 10])]), answer('c', [standing([3, 9])])] })).toEqual([])
  })

  test('the largest epoch of a last record wins over the largest TXID', () => {
    const answers = [answer('b', [standing([3, 99])]), answer('c', [standing([4, 5])])]
    expect(pulled({ answers })).toEqual([['app.db', 'c', 5]])
  })

  test('of each database from whoever has most of it; also one that is not here', () => {
    const answers = [
      answer('b', [standing([3, 12]), standing([1, 4], { database: 'other.db' })]),
      answer('c', [standing([3, 11]), standing([2, 2], { database: 'other.db' })]),
    ]
    expect(pulled({ answers })).toEqual([
      ['app.db', 'b', 12],
      ['other.db', 'c', 2],
    ])
  })

  test('a database without a transaction is nothing to fetch', () => {
    expect(pulled({ databases: [], answers: [answer('b', [standing([0, 0])])] })).toEqual([])
  })

  test('a copy here that is not whole is replaced by an equal one', () => {
    const databases = [standing([3, 10], { isWhole: false })]
    expect(pulled({ databases, answers: [answer('b', [standing([3, 10])])] })).toEqual([['app.db', 'b', 10]])
    expect(pulled({ databases, answers: [answer('b', [standing([3, 9])])] })).toEqual([])
  })

  test('who has most and cannot give it keeps the candidate from office', () => {
    const answers = [answer('b', [standing([3, 12], { isWhole: false })]), answer('c', [standing([3, 11])])]
    expect(() => planPromotion(question({ answers }))).toThrow(refusal(/"b" has more of database "app.db"/))
    const plan = planPromotion(question({ answers, acceptsLoss: true }))
    expect(plan.pulls).toMatchObject([{ from: { nodeName: 'c' } }])
    expect(plan.losses).toHaveLength(1)
  })

  test('but not when a majority of voters can give theirs: what was acknowledged is on one of them', () => {
    const answers = [answer('b', [standing([3, 12], { isWhole: false })]), answer('c', [standing([3, 11])])]
    expect(pulled({ answers, voters: ['a', 'b', 'c'] })).toEqual([['app.db', 'c', 11]])
    const voters = ['a', 'b', 'c', 'd', 'e']
    expect(() => planPromotion(question({ answers, voters }))).toThrow(refusal(/"b" has more/))
  })
})

describe('without voters', () => {
  test('a node that may be behind waits for every member it knows', () => {
    const answers = [answer('b', [standing([3, 9])])]
    const open = question({ answers, silent: ['c'] })
    expect(hasEnoughAnswers(open)).toBe(false)
    expect(() => planPromotion(open)).toThrow(refusal(/may be behind, and c did not answer[^]*--accept-loss/))
    expect(planPromotion({ ...open, isCurrent: true })).toEqual({ pulls: [], losses: [] })
    expect(planPromotion({ ...open, silent: [] })).toEqual({ pulls: [], losses: [] })
    expect(planPromotion({ ...open, acceptsLoss: true }).losses).toEqual([
      'this node may be behind, and c did not answer',
    ])
  })
})

describe('with voters', () => {
  const voters = ['a', 'b', 'c']

  test('a majority of them has to answer, the candidate counted when it is one', () => {
    expect(() => planPromotion(question({ voters, isCurrent: true }))).toThrow(refusal(/1 of 3 voters.*without b, c/))
    expect(planPromotion(question({ voters, answers: [answer('c', [])] })).losses).toEqual([])
    const outside = question({ name: 'x', voters, answers: [answer('c', [])] })
    expect(() => planPromotion(outside)).toThrow(refusal(/1 of 3 voters.*without a, b/))
  })

  test('who is no voter does not count, and is fetched from all the same', () => {
    const answers = [answer('x', [standing([3, 11])])]
    expect(() => planPromotion(question({ voters, answers }))).toThrow(refusal(/1 of 3/))
    expect(pulled({ voters, answers: [...answers, answer('b', [])] })).toEqual([['app.db', 'x', 11]])
  })

  test('a voter that has lost its data counts only where a cluster is founded', () => {
    const answers = [answer('b', [], { clusterId: '' })]
    expect(() => planPromotion(question({ voters, answers }))).toThrow(refusal(/1 of 3/))
    expect(planPromotion(question({ voters, answers, clusterId: '', databases: [] })).losses).toEqual([])
  })

  test('an operator who accepts the loss is told of it', () => {
    const { losses } = planPromotion(question({ voters, acceptsLoss: true }))
    expect(losses).toEqual(['only 1 of 3 voters answered, without b, c'])
  })
})

test('who promised a newer candidate keeps this one from office, whatever an operator accepts', () => {
  const answers = [answer('b', [], { promised: false, promisedEpoch: epoch(12) })]
  expect(() => planPromotion(question({ answers, acceptsLoss: true }))).toThrow(refusal(/promised epoch 12/))
})

test('a node that has not joined takes no office beside a cluster, whatever an operator accepts', () => {
  const joining = question({ clusterId: '', answers: [answer('b', [])], acceptsLoss: true })
  expect(() => planPromotion(joining)).toThrow(refusal(/has not joined a cluster yet/))
  const other = question({ answers: [answer('b', [], { clusterId: 'LFSC0000000000000002' })] })
  expect(() => planPromotion(other)).toThrow(refusal(/in cluster LFSC0000000000000001/))
})
