/**
 * The database file of one machine with its WAL: which states survive what.
 *
 * `states[0]` is in the file itself, durably; the later ones are commits in the WAL. On a primary a commit is durable
 * when it returns (`synchronous=FULL`); on a replica it is not, because its log is.
 * After the process died: the newest state. After a power cut: any state from the newest durable one on.
 * A commit whose sync failed counts as rolled back, but may be found when the process died afterwards.
 */
import { SqliteImage } from './sqlite-image.ts'

export class SqliteFile {
  #states: SqliteImage[] = [SqliteImage.empty]
  /** Index in `#states`. */
  #durable = 0
  #maybe: SqliteImage | undefined
  /** Commits of this machine itself; the others came from a primary. */
  readonly #own = new WeakSet<SqliteImage>()

  /** What a reader sees. */
  get current(): SqliteImage {
    return this.#states.at(-1) as SqliteImage
  }

  /** Everything that the WAL can still show, oldest first; the first is the file itself. */
  get states(): readonly SqliteImage[] {
    return this.#states
  }

  get walCommits(): number {
    return this.#states.length - 1
  }

  commit(image: SqliteImage, isDurable: boolean): void {
    this.#states.push(image)
    this.#maybe = undefined // overwritten
    if (!isDurable) return
    this.#durable = this.#states.length - 1
    this.#own.add(image)
  }

  /** The WAL still holds this commit, and this machine made it. */
  isOwnCommit(image: SqliteImage): boolean {
    return this.#own.has(image) && this.#states.lastIndexOf(image) > 0
  }

  /** The COMMIT failed, but its frames are in the WAL. */
  failedCommit(image: SqliteImage): void {
    this.#maybe = image
  }

  /** The WAL is synced. */
  sync(): void {
    this.#durable = this.#states.length - 1
  }

  /** Everything is synced and copied back, the WAL begins anew. */
  checkpoint(): void {
    this.#states = [this.current]
    this.#durable = 0
  }

  /** Another file takes its place, durably. */
  replace(image: SqliteImage): void {
    this.#states = [image]
    this.#durable = 0
    this.#maybe = undefined
  }

  processEnded(random: () => number): void {
    const maybe = this.#maybe
    this.#maybe = undefined
    if (maybe !== undefined && random() < 0.5) this.commit(maybe, true)
  }

  cutPower(random: () => number): void {
    this.processEnded(random)
    const kept = this.#durable + Math.floor(random() * (this.#states.length - this.#durable))
    this.#states.length = kept + 1
    this.#durable = kept
  }
}
