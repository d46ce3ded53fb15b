/**
 * Runs one task in a worker thread of its own.
 *
 * Promises: when the promise settles, be it after an abort, the worker has ended and touches no descriptor any more.
 */
import { type Transferable, Worker } from 'node:worker_threads'
import { InvariantError } from '../base/assert.ts'
import { fromPortableError, type WorkerMethod, type WorkerMethods, type WorkerReply } from './worker-protocol.ts'

/**
 * The worker's file has the extension of this one: `.ts` when Node runs the sources, `.js` in the built package. The
 * compiler rewrites the extensions of imports only, not of such a URL.
 */
const EXTENSION = import.meta.url.slice(import.meta.url.lastIndexOf('.'))

export interface WorkerCall<M extends WorkerMethod> {
  readonly method: M
  readonly input: WorkerMethods[M]['input']
  /** Buffers of the input that are moved instead of copied. */
  readonly transfer: readonly Transferable[]
  /** The process does not end before the task does. */
  readonly keepsProcess: boolean
  /** Aborting ends the worker. */
  readonly signal?: AbortSignal | undefined
  /** Told now and then how many bytes are done. */
  onProgress?(bytes: number): void
}

/** Rejects with the error of the task, or with the signal's reason. */
export async function callWorker<M extends WorkerMethod>(call: WorkerCall<M>): Promise<WorkerMethods[M]['result']> {
  const { method, input, transfer, signal } = call
  signal?.throwIfAborted()
  const worker = new Worker(new URL(`./snapshot-worker${EXTENSION}`, import.meta.url), {
    name: `litefleet ${method}`,
    workerData: { method, input },
    transferList: [...transfer],
    // What the application preloads or inspects its own threads with has no business here.
    execArgv: [],
  })
  if (!call.keepsProcess) worker.unref()
  const abort = (): void => void worker.terminate()
  signal?.addEventListener('abort', abort, { once: true })
  try {
    return await outcome(worker, call)
  } finally {
    signal?.removeEventListener('abort', abort)
    await worker.terminate()
  }
}

function outcome<M extends WorkerMethod>(worker: Worker, call: WorkerCall<M>): Promise<WorkerMethods[M]['result']> {
  return new Promise((resolve, reject) => {
    worker.on('message', (reply: WorkerReply<M>) => {
      if (reply.kind === 'progress') call.onProgress?.(reply.bytes)
      else if (reply.kind === 'done') resolve(reply.result)
      else reject(fromPortableError(reply.error))
    })
    worker.on('error', reject)
    worker.on('exit', (code) => {
      const isAborted = call.signal?.aborted === true
      reject(isAborted ? (call.signal.reason as Error) : new InvariantError(`snapshot worker ended with code ${code}`))
    })
  })
}
