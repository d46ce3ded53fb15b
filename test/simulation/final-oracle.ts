/**
 * When all machines are back and agree: does what they have agree with what the clients were told?
 *
 * - I9: equal positions, equal bytes. Logs without a hole (I2). SQLite finds every database whole.
 * - Nothing acknowledged is lost: it exists once, or the divergence report of a machine that had it holds it.
 * - I7: nothing exists twice; what was refused does not exist; what is unknown exists once or not at all.
 * - The operations of one client are in the order in which it was told of them.
 */
import { formatPosition, samePosition } from '../../packages/core/src/position/position.ts'
import { nextTxid } from '../../packages/core/src/position/txid.ts'
import { State } from './application.ts'
import type { Fleet } from './fleet.ts'
import type { OperationBook } from './operation-book.ts'
import type { SimNode } from './sim-node.ts'
import { Violation } from './violation.ts'

export function judge(fleet: Fleet, book: OperationBook): void {
  const [primary] = fleet.primaries
  if (primary === undefined) return
  const state = new State(primary.process.machine.file.current, true)
  fleet.checkState(`${primary.name} at the end`, state)
  for (const node of fleet.nodes) {
    judgeImage(fleet, primary, node)
    judgeLog(fleet, node)
  }
  const reported = new Set(fleet.machines.flatMap(({ reports }) => reports.flatMap(({ operations }) => operations)))
  for (const operation of book.all()) {
    if (operation.told === 'waiting') fleet.violate(new Violation('liveness', `${operation.id} was never answered`))
    if (operation.told !== 'applied') continue
    const places = state.places.get(operation.id)
    if (places === undefined) {
      operation.isReported = true
      if (operation.isSafe) fleet.violate(new Violation('I1', `${operation.id} was at a majority and is lost`))
      if (!reported.has(operation.id)) {
        fleet.violate(new Violation('lost', `${operation.id} was applied at ${operation.appliedAt} and is nowhere`))
      }
      continue
    }
    const before = operation.after === undefined ? undefined : state.places.get(operation.after)
    if (before !== undefined && (before[0] as number) >= (places[0] as number)) {
      fleet.violate(new Violation('order', `${operation.id} stands before ${operation.after}`))
    }
  }
}

function judgeImage(fleet: Fleet, primary: SimNode, node: SimNode): void {
  const mine = node.process.machine.file.current
  const theirs = primary.process.machine.file.current
  if (!mine.toBuffer().equals(theirs.toBuffer())) {
    fleet.violate(new Violation('I9', `${node.name} and ${primary.name} stand at one position with different bytes`))
  }
}

function judgeLog(fleet: Fleet, node: SimNode): void {
  const { log } = node.database
  let { position } = log.start
  for (let entry = log.readRecord(nextTxid(position.txid)); entry !== undefined; ) {
    if (!samePosition(entry.record.preApply, position)) {
      fleet.violate(new Violation('I2', `the log of ${node.name} has a hole after ${formatPosition(position)}`))
    }
    position = entry.record.postApply
    entry = log.readRecord(nextTxid(position.txid))
  }
  if (!samePosition(position, log.tail.position)) {
    fleet.violate(new Violation('I2', `the log of ${node.name} cannot be read to its end`))
  }
}
