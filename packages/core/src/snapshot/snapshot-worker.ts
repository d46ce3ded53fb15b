/**
 * The entry of a snapshot worker: does the one task it was started with and ends.
 *
 * Relies on: the descriptors in the task stay open until the worker has ended. They were opened by the main thread, so
 * the end of the worker does not close them; and nothing here opens or closes a file, least of all a database (its locks
 * would go).
 */
import { parentPort, type Transferable, workerData } from 'node:worker_threads'
import { assert } from '../base/assert.ts'
import { realDisk } from '../files/disk.ts'
import { hashRange } from './page-range-hash.ts'
import { copyToSpool } from './spool-copy.ts'
import { toPortableError, type WorkerReply, type WorkerTask } from './worker-protocol.ts'

/** How often progress is told, in bytes: a message costs as much as hashing some ten KiB. */
const PROGRESS_BYTES = 4 * 1024 * 1024

function run(task: WorkerTask): void {
  switch (task.method) {
    case 'hashRange': {
      const result = finish(hashRange(realDisk, task.input))
      return reply({ kind: 'done', result }, [result.buffer])
    }
    case 'copyToSpool':
      return reply({ kind: 'done', result: finish(copyToSpool(realDisk, task.input)) })
  }
}

function finish<T>(steps: Generator<number, T>): T {
  let told = 0
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
    if (step.value - told < PROGRESS_BYTES) continue
    told = step.value
    reply({ kind: 'progress', bytes: told })
  }
}

function reply(message: WorkerReply, transfer: readonly Transferable[] = []): void {
  assert(parentPort !== null, 'a snapshot worker runs in a worker thread')
  parentPort.postMessage(message, transfer)
}

try {
  run(workerData as WorkerTask)
} catch (error) {
  reply({ kind: 'failed', error: toPortableError(error) })
}
