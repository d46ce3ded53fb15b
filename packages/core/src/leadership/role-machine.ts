/** Applies the table of roles to one event. Pure. */
import { assert, unreachable } from '../base/assert.ts'
import { type DetachReason, type NodeRole, type RoleEvent, roleTable, type Term } from './node-role.ts'

/**
 * The role after `event`; the same object when nothing changes. Throws `InvariantError` for what only a defect can
 * cause.
 */
export function nextRole(role: NodeRole, event: RoleEvent): NodeRole {
  const step = roleTable[role.kind][event.kind]
  assert(step !== 'never', `event ${event.kind} in role ${role.kind}`)
  switch (step) {
    case 'stay':
      return role
    case 'detached':
      return { kind: 'detached', reason: reasonOf(role, event) }
    case 'replica':
      assert(event.kind === 'primary-found', `role replica after event ${event.kind}`)
      assert(!event.primary.isSelf, 'a node cannot follow itself')
      return { kind: 'replica', primary: event.primary }
    case 'candidate':
      return { kind: 'candidate', term: termOf(role, event) }
    case 'primary':
      return { kind: 'primary', term: termOf(role, event) }
    case 'handing-off':
      assert(event.kind === 'handoff-asked', `role handing-off after event ${event.kind}`)
      return { kind: 'handing-off', term: termOf(role, event), to: event.to }
    case 'closed':
      return { kind: 'closed' }
    default:
      return unreachable(step, 'role')
  }
}

function termOf(role: NodeRole, event: RoleEvent): Term {
  if (event.kind === 'lease-won' || event.kind === 'handoff-offered') return event.term
  assert('term' in role, `event ${event.kind} in role ${role.kind} brings no term`)
  return role.term
}

function reasonOf(role: NodeRole, event: RoleEvent): DetachReason {
  if (event.kind === 'demoted' || event.kind === 'history-diverged') return event.kind
  if (event.kind === 'lease-lost') return role.kind === 'handing-off' ? 'handed-off' : 'lease-lost'
  return 'no-primary'
}
