/**
 * Five projects, told apart by what a test needs. `unit` must stay fast enough to run on every save; `fuzz` fuzzes for some
 * seconds; the others start nodes.
 *
 * `forks`, because the locks SQLite takes belong to a process: two test files in one process could free each other's.
 * Two workers, because several nodes per test already fill a small machine.
 */
import { defineConfig } from 'vitest/config'

const shared = { pool: 'forks' as const, environment: 'node' as const, exclude: ['**/node_modules/**', '**/dist/**'] }
const severalNodes = { fileParallelism: true, hookTimeout: 60_000, teardownTimeout: 30_000 }

export default defineConfig({
  test: {
    maxWorkers: 2,
    // Each project is run alone by name; one that has no file yet is not a failure of the others.
    passWithNoTests: true,
    projects: [
      {
        test: {
          ...shared,
          name: 'unit',
          include: [
            '{packages,examples,bench}/**/*.test.ts',
            'test/{support,simulation}/**/*.test.ts',
            'test/fuzz/**/*.unit.test.ts',
          ],
          testTimeout: 30_000,
        },
      },
      {
        test: {
          ...shared,
          ...severalNodes,
          name: 'cluster',
          include: ['test/**/*.cluster.test.ts'],
          testTimeout: 120_000,
        },
      },
      {
        test: { ...shared, ...severalNodes, name: 'fault', include: ['test/**/*.fault.test.ts'], testTimeout: 300_000 },
      },
      { test: { ...shared, name: 'fuzz', include: ['test/fuzz/*.fuzz.test.ts'], testTimeout: 300_000 } },
      {
        test: {
          ...shared,
          ...severalNodes,
          name: 'interop',
          include: ['test/**/*.interop.test.ts'],
          testTimeout: 120_000,
        },
      },
      // Not among what `pnpm test` runs.
      {
        test: {
          ...shared,
          ...severalNodes,
          name: 'demonstration',
          include: ['test/**/*.demonstration.ts'],
          testTimeout: 60_000,
        },
      },
    ],
  },
})
