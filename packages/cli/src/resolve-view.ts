/** What became of a write, for people and for programs. */
import { formatPosition } from '@litefleet/core'
import type { ResolveAnswer } from '@litefleet/core/peer'
import { plainJson } from './plain-json.ts'

/** A line that says it, and one with the answer where that was kept. */
export function formatResolution(answer: ResolveAnswer): string {
  const at = formatPosition(answer.position)
  if (answer.outcome === 'not-applied') return `not applied, and never will be: recorded at ${at}`
  const said =
    answer.result === undefined ? 'its answer was too large to keep' : JSON.stringify(contentOf(answer.result))
  return `applied: contained in ${at}\n${said}`
}

export function resolutionJson(requestId: string, database: string, answer: ResolveAnswer): object {
  const { outcome, position, epoch } = answer
  const result = outcome === 'applied' && answer.result !== undefined ? plainJson(answer.result) : null
  return { database, requestId, outcome, result, position: formatPosition(position), epoch }
}

function contentOf(result: NonNullable<Extract<ResolveAnswer, { outcome: 'applied' }>['result']>): unknown {
  return plainJson(result.kind === 'batch' ? result.results : result.value)
}
