import { TestNode, type TestNodeOptions } from './test-node.ts'

/** The nodes of one test, and what else it opened; closed after it, the last one first. */
export class TestNodes {
  readonly #closers: (() => Promise<unknown> | void)[] = []

  onClose(close: () => Promise<unknown> | void): void {
    this.#closers.push(close)
  }

  /** A node that listens and dials again soon. */
  async start(options: TestNodeOptions): Promise<TestNode> {
    const node = new TestNode({ ...options, peer: { reconnectMinMs: 5, reconnectMaxMs: 20, ...options.peer } })
    this.onClose(() => node.close())
    return node.listen()
  }

  /** A primary, and a replica that follows it. */
  async pair(primaryOptions: Partial<TestNodeOptions> = {}, replicaOptions: Partial<TestNodeOptions> = {}) {
    const primary = await this.start({ name: 'primary', ...primaryOptions })
    primary.leadership.set('primary')
    const replica = (await this.start({ name: 'replica', ...replicaOptions })).follow(primary)
    return { primary, replica }
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).toReversed()) await close()
  }
}
