/**
 * What gRPC does between two nodes, over a virtual connection: the two halves of one call of the channel.
 *
 * Messages pass through the real serializers of the protocol files. A call that is cancelled, or whose connection ends,
 * shows on the other side as gRPC shows it: `cancelled` there, an error or the end here.
 */
import { EventEmitter } from 'node:events'
import { Metadata, type ServerDuplexStream, status, type StatusObject } from '@grpc/grpc-js'
import type { Call, Dial } from '../../packages/core/src/peer/client-connection.ts'
import type { PeerProtocol } from '../../packages/core/src/peer/protocol.ts'
import type { PeerMessage } from '../../packages/core/src/peer/wire-messages.ts'
import type { Endpoint, Host, Network } from './network.ts'

interface Ended {
  readonly status: Partial<StatusObject>
}

/** Dials the machine that the host part of an address names. */
export function virtualDial(network: Network, host: Host, protocol: PeerProtocol): Dial {
  return (address) => {
    const call = new ClientCall(network.dial(host, address.split(':')[0] ?? '', 'grpc'), protocol)
    return { call: call as unknown as Call, close: () => undefined }
  }
}

/** The answering side of a call that came in. */
export function serverCall(endpoint: Endpoint, protocol: PeerProtocol): ServerDuplexStream<PeerMessage, PeerMessage> {
  return new ServerCall(endpoint, protocol) as unknown as ServerDuplexStream<PeerMessage, PeerMessage>
}

class ClientCall extends EventEmitter {
  readonly #endpoint: Endpoint
  readonly #protocol: PeerProtocol

  constructor(endpoint: Endpoint, protocol: PeerProtocol) {
    super()
    this.#endpoint = endpoint
    this.#protocol = protocol
    endpoint.onData = (payload) => {
      if (Buffer.isBuffer(payload)) this.emit('data', protocol.peer['Channel']!.responseDeserialize(payload))
      else this.#ended((payload as Ended).status)
    }
    endpoint.onEnd = () => this.#ended({ code: status.UNAVAILABLE, details: 'Connection dropped' })
  }

  write(message: PeerMessage, done?: () => void): boolean {
    const bytes = this.#protocol.peer['Channel']!.requestSerialize(message)
    this.#endpoint.send(bytes, bytes.length, done)
    return true
  }

  cancel(): void {
    this.#endpoint.close()
  }

  #ended(how: Partial<StatusObject>): void {
    this.#endpoint.close()
    if (how.code === status.OK) this.emit('end')
    else this.emit('error', Object.assign(new Error(how.details ?? ''), how))
  }
}

class ServerCall extends EventEmitter {
  readonly metadata = new Metadata()
  readonly #endpoint: Endpoint
  readonly #protocol: PeerProtocol

  constructor(endpoint: Endpoint, protocol: PeerProtocol) {
    super()
    this.#endpoint = endpoint
    this.#protocol = protocol
    endpoint.onData = (payload) => this.emit('data', protocol.peer['Channel']!.requestDeserialize(payload as Buffer))
    endpoint.onEnd = () => this.emit('cancelled', 'cancelled')
  }

  write(message: PeerMessage, done?: () => void): boolean {
    const bytes = this.#protocol.peer['Channel']!.responseSerialize(message)
    this.#endpoint.send(bytes, bytes.length, done)
    return true
  }

  end(): void {
    this.#finish({ code: status.OK })
  }

  /** gRPC takes an error that is emitted on the call for its status. */
  override emit(event: string | symbol, ...args: unknown[]): boolean {
    if (event === 'error') this.#finish(args[0] as Partial<StatusObject>)
    return super.emit(event, ...args)
  }

  #finish(how: Partial<StatusObject>): void {
    this.#endpoint.send({ status: how } satisfies Ended, 64)
    this.#endpoint.close()
  }
}
