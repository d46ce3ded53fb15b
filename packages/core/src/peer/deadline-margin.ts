/**
 * What one hop keeps of a deadline for itself.
 *
 * The asking side waits `timeoutMs`; the answering side works with less, so that its accurate answer ("queue full",
 * "committed but not yet visible") arrives before the asking side gives up and can only say "unknown".
 */
const MARGIN_MS_MAX = 250

/** What the answering side may use of `timeoutMs`: 10 % less, but at most 250 ms less. */
export function innerTimeoutMs(timeoutMs: number): number {
  return timeoutMs - Math.min(MARGIN_MS_MAX, timeoutMs / 10)
}
