import { describe, expect, it } from 'vitest'
import { InvariantError } from '../base/assert.ts'
import { epoch, NO_EPOCH } from '../position/epoch.ts'
import { type NodeRole, type PrimaryInfo, type RoleEvent, roleTable, type Term } from './node-role.ts'
import { nextRole } from './role-machine.ts'

const term = (number: number): Term => ({
  epoch: epoch(number),
  lease: {
    epoch: epoch(number),
    lost: new AbortController().signal,
    lastOffice: NO_EPOCH,
    isHeld: () => true,
    recordOffice: () => Promise.resolve(),
    release: () => Promise.resolve(),
  },
})
const primary: PrimaryInfo = {
  hostname: 'p',
  name: 'p',
  advertiseUrl: '',
  grpcAddress: 'p:1',
  nodeId: 'p',
  region: '',
  protocol: 1,
  isSelf: false,
}

const roles: { readonly [K in NodeRole['kind']]: NodeRole } = {
  detached: { kind: 'detached', reason: 'starting' },
  replica: { kind: 'replica', primary: { ...primary, name: 'older' } },
  candidate: { kind: 'candidate', term: term(1) },
  primary: { kind: 'primary', term: term(1) },
  'handing-off': { kind: 'handing-off', term: term(1), to: 'x' },
  closed: { kind: 'closed' },
}

const events: { readonly [K in RoleEvent['kind']]: RoleEvent } = {
  'lease-won': { kind: 'lease-won', term: term(2) },
  'office-taken': { kind: 'office-taken' },
  'primary-found': { kind: 'primary-found', primary },
  'primary-lost': { kind: 'primary-lost' },
  'handoff-offered': { kind: 'handoff-offered', term: term(2) },
  'handoff-asked': { kind: 'handoff-asked', to: 'y' },
  'lease-lost': { kind: 'lease-lost' },
  demoted: { kind: 'demoted' },
  'history-diverged': { kind: 'history-diverged' },
  close: { kind: 'close' },
}

const cells = Object.keys(roles).flatMap((role) =>
  Object.keys(events).map((event) => [role, event] as [NodeRole['kind'], RoleEvent['kind']]),
)

describe('the table of roles', () => {
  it('has every cell', () => {
    expect(cells.length).toBe(60)
    for (const [role, event] of cells) expect(roleTable[role][event]).toBeDefined()
  })

  it.each(cells)('%s + %s does what its cell says', (from, event) => {
    const step = roleTable[from][event]
    const role = roles[from]
    if (step === 'never') return expect(() => nextRole(role, events[event])).toThrow(InvariantError)
    const next = nextRole(role, events[event])
    if (step === 'stay') return expect(next).toBe(role)
    expect(next.kind).toBe(step)
    // Office needs a lease, and following needs somebody else to follow.
    if ('term' in next)
      expect(next.term).toBe(
        'term' in events[event] ? (events[event] as { term: Term }).term : (role as { term: Term }).term,
      )
    if (next.kind === 'replica') expect(next.primary).toBe(primary)
  })

  it('leaves "closed" never, and takes office only from "candidate" or after a handoff that failed', () => {
    for (const [role, event] of cells) {
      const step = roleTable[role][event]
      if (role === 'closed') expect(step).toBe('stay')
      if (step === 'primary')
        expect([role, event]).toEqual(
          role === 'candidate' ? ['candidate', 'office-taken'] : ['handing-off', 'lease-won'],
        )
    }
  })

  it('ends office on every event that takes the lease or the history away', () => {
    for (const role of ['candidate', 'primary', 'handing-off'] as const) {
      for (const event of ['lease-lost', 'demoted', 'history-diverged', 'primary-found', 'close'] as const) {
        expect(['detached', 'replica', 'closed']).toContain(roleTable[role][event])
      }
    }
  })

  it.each([
    ['replica', 'primary-lost', 'no-primary'],
    ['primary', 'lease-lost', 'lease-lost'],
    ['handing-off', 'lease-lost', 'handed-off'],
    ['primary', 'demoted', 'demoted'],
    ['candidate', 'history-diverged', 'history-diverged'],
  ] as const)('says why a node is detached: %s + %s', (role, event, reason) => {
    expect(nextRole(roles[role], events[event])).toEqual({ kind: 'detached', reason })
  })
})
