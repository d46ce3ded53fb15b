/** What vitest's JSON reporter says, counted. */

export interface VitestReport {
  readonly testResults: readonly {
    /** The test file. */
    readonly name: string
    readonly status: string
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[]
  }[]
}

export interface Counts {
  readonly passed: number
  readonly failed: number
  /** Full names of tests that were not run. */
  readonly skipped: readonly string[]
}

export const NO_COUNTS: Counts = { passed: 0, failed: 0, skipped: [] }

export function addCounts(a: Counts, b: Counts): Counts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: [...a.skipped, ...b.skipped] }
}

/** A file that failed without a failing test (an import, a hook) counts as one failure; whatever did not run is skipped. */
export function countVitest(report: VitestReport): Counts {
  let counts = NO_COUNTS
  for (const file of report.testResults) {
    const passed = file.assertionResults.filter((test) => test.status === 'passed').length
    const failed = file.assertionResults.filter((test) => test.status === 'failed').length
    const skipped = file.assertionResults
      .filter((test) => test.status !== 'passed' && test.status !== 'failed')
      .map((test) => test.fullName)
    const fileFailed = file.status === 'failed' && failed === 0 ? 1 : 0
    counts = addCounts(counts, { passed, failed: failed + fileFailed, skipped })
  }
  return counts
}
