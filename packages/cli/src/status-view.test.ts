import { expect, test } from 'vitest'
import { formatStatusTable, type NodeView } from './status-view.ts'

const database = {
  name: 'bank.db',
  state: 'ready',
  txid: '000000000000002a',
  checksum: '9000000000000001',
  epoch: 1,
  lagMs: 0,
  logBytes: 1,
  walBytes: 2,
  divergences: 0,
  replicas: [],
}
const gru: NodeView = {
  address: 'a:1',
  name: 'gru',
  region: 'sa',
  role: 'primary',
  roleDetail: '',
  databases: [database],
  error: null,
}

test('one line for each database of each node, columns under their headings', () => {
  const replica = { name: 'lhr', region: 'eu', counted: true, durableTxid: null, appliedTxid: null }
  const view = {
    clusterId: 'x',
    nodes: [
      { ...gru, databases: [{ ...database, replicas: [replica, { ...replica, name: 'fly', counted: false }] }] },
      { ...gru, name: 'lhr', region: 'eu', role: 'replica', databases: [{ ...database, lagMs: 1.25 }] },
      {
        ...gru,
        name: 'nrt',
        region: 'as',
        role: 'replica',
        databases: [{ ...database, state: 'seeding', lagMs: null }],
      },
    ],
  }
  expect(formatStatusTable(view)).toBe(
    [
      'NODE  REGION  ROLE     DATABASE           TXID              CHECKSUM             LAG  REPLICAS',
      'gru   sa      primary  bank.db            000000000000002a  9000000000000001       -  lhr, fly (LiteFS)',
      'lhr   eu      replica  bank.db            000000000000002a  9000000000000001  1.3 ms',
      'nrt   as      replica  bank.db (seeding)  000000000000002a  9000000000000001       ?',
    ].join('\n'),
  )
})

test('a node that does not answer, and one without databases, still have a line', () => {
  const view = {
    clusterId: 'x',
    nodes: [
      { ...gru, databases: [] },
      { ...gru, name: 'lhr', databases: [], error: 'PEER_UNREACHABLE' },
    ],
  }
  const lines = formatStatusTable(view).split('\n')
  expect(lines[1]).toMatch(/^gru +sa +primary +-$/)
  expect(lines[2]).toMatch(/^lhr +sa +unreachable +PEER_UNREACHABLE$/)
})

test('a primary without replicas says none', () => {
  expect(formatStatusTable({ clusterId: 'x', nodes: [gru] })).toMatch(/ none$/)
})

test('a node that keeps divergence reports is named', () => {
  const databases = [database, { ...database, name: 'a.db', divergences: 1 }, { ...database, divergences: 3 }]
  expect(
    formatStatusTable({ clusterId: 'x', nodes: [{ ...gru, databases }] })
      .split('\n')
      .slice(4),
  ).toEqual([
    'node gru keeps a divergence report of a.db: see litefleet divergence list there',
    'node gru keeps 3 divergence reports of bank.db: see litefleet divergence list there',
  ])
})

test('a node without a primary says why', () => {
  const node = { ...gru, role: 'detached', roleDetail: 'no-primary: only 1 of 3 voters answered' }
  const lines = formatStatusTable({ clusterId: 'x', nodes: [node] }).split('\n')
  expect(lines.at(-1)).toBe('node gru is detached: no-primary: only 1 of 3 voters answered')
})
