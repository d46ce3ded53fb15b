/** Options of the connections between nodes. */
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'

export interface PeerOptions {
  /** Silence after which a ping is sent, in ms. Default: 2,000. */
  readonly keepaliveMs?: number | undefined
  /** Silence after which a connection counts as dead, in ms; at least twice `keepaliveMs`. Default: 8,000. */
  readonly silenceMs?: number | undefined
  /** How long connecting and the exchange of hellos may take, in ms. Default: 5,000. */
  readonly connectTimeoutMs?: number | undefined
  /** First and longest wait between two attempts to connect, in ms. Default: 50 and 2,000. */
  readonly reconnectMinMs?: number | undefined
  readonly reconnectMaxMs?: number | undefined
  /** Requests without an answer on one channel; one more is refused with `PEER_QUEUE_FULL`. Default: 16,384. */
  readonly inFlightMax?: number | undefined
  /** Their bytes together. Default: 64 MiB. */
  readonly inFlightBytesMax?: number | undefined
  /** The largest single request or answer. Default: 16 MiB. */
  readonly messageBytesMax?: number | undefined
  /** Channels to other nodes kept at a time; the longest unused one is closed for another. Default: 64. */
  readonly clientsMax?: number | undefined
  /** A channel that nobody used for so long is closed, in ms, unless it leads to the primary. Default: 300,000. */
  readonly clientIdleMs?: number | undefined
}

export type ResolvedPeerOptions = { readonly [K in keyof PeerOptions]-?: number }

export const PEER_DEFAULTS: ResolvedPeerOptions = Object.freeze({
  keepaliveMs: 2_000,
  silenceMs: 8_000,
  connectTimeoutMs: 5_000,
  reconnectMinMs: 50,
  reconnectMaxMs: 2_000,
  inFlightMax: 16_384,
  inFlightBytesMax: 64 << 20,
  messageBytesMax: 16 << 20,
  clientsMax: 64,
  clientIdleMs: 300_000,
})

/** @throws INVALID_OPTION */
export function resolvePeerOptions(given: PeerOptions = {}): ResolvedPeerOptions {
  const names = Object.keys(PEER_DEFAULTS) as (keyof PeerOptions)[]
  rejectUnknownOptions(given, names, 'peer')
  const resolved = { ...PEER_DEFAULTS }
  for (const name of names) {
    const value = given[name] ?? PEER_DEFAULTS[name]
    if (!Number.isSafeInteger(value) || value < 1) invalidOption('peer', name, value, 'a positive integer')
    Object.assign(resolved, { [name]: value })
  }
  if (resolved.silenceMs < 2 * resolved.keepaliveMs) {
    invalidOption('peer', 'silenceMs', resolved.silenceMs, 'at least twice keepaliveMs')
  }
  return Object.freeze(resolved)
}
