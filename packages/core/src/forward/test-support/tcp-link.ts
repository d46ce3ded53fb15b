/** A TCP connection between two nodes that a test can cut or freeze. */
import net from 'node:net'

export class TcpLink {
  readonly #server: net.Server
  readonly #pairs = new Set<readonly [net.Socket, net.Socket]>()
  #isFrozen = false
  connections = 0

  private constructor(targetPort: number) {
    this.#server = net.createServer((near) => {
      this.connections++
      const far = net.connect(targetPort, '127.0.0.1')
      const pair = [near, far] as const
      this.#pairs.add(pair)
      const end = (): void => {
        this.#pairs.delete(pair)
        near.destroy()
        far.destroy()
      }
      for (const [from, to] of [pair, [far, near] as const]) {
        from.on('data', (bytes) => to.write(bytes))
        from.on('error', end)
        from.on('close', end)
      }
      if (this.#isFrozen) for (const socket of pair) socket.pause()
    })
  }

  static async open(address: string): Promise<TcpLink> {
    const link = new TcpLink(Number(address.split(':')[1]))
    await new Promise<void>((resolve) => link.#server.listen(0, '127.0.0.1', resolve))
    return link
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`
  }

  /** Ends every connection at once. New ones are possible. */
  cut(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy()
  }

  /** Nothing arrives any more, and nobody is told. */
  freeze(): void {
    this.#isFrozen = true
    for (const pair of this.#pairs) for (const socket of pair) socket.pause()
  }

  /** Held-back bytes arrive. */
  thaw(): void {
    this.#isFrozen = false
    for (const pair of this.#pairs) for (const socket of pair) socket.resume()
  }

  async close(): Promise<void> {
    this.cut()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}
