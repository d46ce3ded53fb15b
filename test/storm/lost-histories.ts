/**
 * When the history of the fleet may lose transactions, and the rule for what may be lost then.
 *
 * **What may legally be lost.** While the primary stays the same, or moves in good order, nothing. Where another node takes its place while
 * it lags, or an old primary goes on beside a new one, transactions may be lost to the cluster: those that the node which stays primary does
 * not have. Of them,
 *
 * - a write acknowledged at `none`, `local`, `all` (which means all replicas that are connected) or `{ replicas: n }` with n smaller than the
 *   number of all other nodes may be lost: the new primary may be one that does not have it. It must be in a divergence report of every
 *   node that ran it, with its request, and exist exactly once after the reports were replayed; unless the node's log had been pruned
 *   there, which the report must say (`missing`), or the primary had died between its commit and its log, so that only a retry or `resolve`
 *   acknowledged it later: then the report has its transaction and cannot know its request;
 * - a write acknowledged at `{ replicas: n }` with all other nodes is durable on whoever becomes primary, and is never lost;
 * - a write of unknown outcome exists once or not at all, whatever happens;
 * - a write that was refused never existed anywhere;
 * - what `resolve` said holds within the history in which it was asked: with "not applied" in a history that is lost later, or beside
 *   which another one existed, the write may exist in the end. It never exists twice.
 *
 * Where nodes elect their primary with voters, any fault may cost an election, so there may be two histories all the time. A write that was acknowledged
 * at `majority` is never lost, whichever node follows which; the rest is as above.
 *
 * A write resolved as "not applied" leaves a tombstone, so a replay of it is refused.
 */
export class LostHistories {
  readonly #listeners: (() => void)[] = []
  #boundaries = 0
  #open = 0

  /** Times at which the fleet's history may have lost something, since the start. */
  get boundaries(): number {
    return this.#boundaries
  }

  /** Just now there may be two histories. */
  get isOpen(): boolean {
    return this.#open > 0
  }

  /** Told of every boundary. */
  onBoundary(listener: () => void): void {
    this.#listeners.push(listener)
  }

  /** What is acknowledged from here on may belong to a history that is lost. */
  begin(): void {
    this.#open++
    this.boundary()
  }

  boundary(): void {
    this.#boundaries++
    for (const listener of this.#listeners) listener()
  }

  end(): void {
    this.boundary()
    this.#open--
  }
}
