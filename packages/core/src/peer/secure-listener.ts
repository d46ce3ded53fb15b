/** The rule for every listener of a node (design D14): beyond loopback only with a cluster key. */
import { ClusterError } from '../errors/cluster-error.ts'

/**
 * @param host what the listener is to bind: an address or a name
 * @throws INSECURE_LISTENER
 */
export function requireSecureListener(host: string, hasKey: boolean): void {
  if (hasKey || isLoopback(host)) return
  throw new ClusterError('INSECURE_LISTENER', `listening on "${host}" without a cluster key would let anybody write`, {
    details: { host },
    hint: 'Set clusterKey (at least 16 characters, the same on every node), or listen on 127.0.0.1.',
  })
}

/** Names other than `localhost` are not resolved: what they lead to can change after the check. */
function isLoopback(host: string): boolean {
  if (!/^[\w.:[\]-]+$/.test(host)) return false
  const isBareV6 = host.includes(':') && !host.startsWith('[')
  // The URL parser writes every spelling of an address in the one normal form.
  const normal = URL.parse(`http://${isBareV6 ? `[${host}]` : host}/`)?.hostname
  return normal === 'localhost' || normal === '[::1]' || /^127(\.\d{1,3}){3}$/.test(normal ?? '')
}
