/** The option `peers`: where other nodes may be. */
import { invalidOption } from '../errors/unknown-option.ts'

/** `host:port`, or every address that a name has. */
export type PeerSource =
  | { readonly kind: 'address'; readonly address: string }
  | { readonly kind: 'dns'; readonly name: string; readonly port: number }

const WHERE = 'openCluster'
const PEERS_MAX = 32
const PEER = /^(dns:)?(\[[0-9a-fA-F:.%]+\]|[^\s:/[\]]+):(\d{1,5})$/

/** Throws `INVALID_OPTION`. */
export function resolvePeers(
  given: readonly string[] | undefined,
  env: NodeJS.ProcessEnv,
  grpcPort: number,
): readonly PeerSource[] {
  const peers = given ?? peersOnFly(env, grpcPort)
  if (!Array.isArray(peers) || peers.length > PEERS_MAX)
    invalidOption(WHERE, 'peers', peers, `a list of at most ${PEERS_MAX} of "host:port" and "dns:name:port"`)
  return peers.map((peer: unknown, i) => resolvePeer(`peers[${i}]`, peer))
}

function resolvePeer(option: string, peer: unknown): PeerSource {
  const match = PEER.exec(typeof peer === 'string' ? peer : '')
  const [, isName, host = '', digits] = match ?? []
  const port = Number(digits)
  const isRight = match !== null && port >= 1 && port <= 65_535 && (isName === undefined || !host.startsWith('['))
  if (!isRight) return invalidOption(WHERE, option, peer, '"host:port", or "dns:name:port"')
  return isName === undefined ? { kind: 'address', address: `${host}:${port}` } : { kind: 'dns', name: host, port }
}

/** Every machine of an app listens on the same port, and the platform's DNS knows all that run. */
function peersOnFly({ FLY_APP_NAME: app = '' }: NodeJS.ProcessEnv, grpcPort: number): readonly string[] {
  return app === '' || grpcPort === 0 ? [] : [`dns:${app}.internal:${grpcPort}`]
}
