/** Runs work that is cut into steps on this thread, and lets everything else have its turn after each step. */
export async function runInTurns<T>(
  steps: Generator<number, T>,
  signal: AbortSignal,
  onProgress?: (bytes: number) => void,
): Promise<T> {
  for (;;) {
    signal.throwIfAborted()
    const step = steps.next()
    if (step.done === true) return step.value
    onProgress?.(step.value)
    await new Promise((resolve) => setImmediate(resolve))
  }
}
