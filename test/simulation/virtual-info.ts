/** Asks a node who it is (`GET /info`), over a virtual connection; the probe of the static lease. */
import type { Clock } from '../../packages/core/src/base/clock.ts'
import { ClusterError } from '../../packages/core/src/errors/cluster-error.ts'
import type { LeaseHolder } from '../../packages/core/src/lease/lease-holder.ts'
import { parseNodeInfo } from '../../packages/core/src/stream/node-info.ts'
import type { Host, Network } from './network.ts'
import { virtualConnect } from './virtual-http.ts'

const TIMEOUT_MS = 1_000

export function probe(
  network: Network,
  host: Host,
  clock: Clock,
  url: string,
  signal: AbortSignal,
): Promise<LeaseHolder> {
  const { hostname } = new URL(url)
  const session = virtualConnect(network, host, 64 * 1024)(new URL(url), { host: hostname, port: 1 })
  return new Promise<string>((resolve, reject) => {
    const fail = (): void => reject(new ClusterError('STREAM_FAILED', `info of ${url}: no answer`))
    const timer = clock.setTimer(TIMEOUT_MS, fail)
    signal.addEventListener('abort', fail, { once: true })
    session.on('close', () => (timer.cancel(), fail()))
    const request = session.request({ ':method': 'GET', ':path': '/info' })
    let text = ''
    request.on('error', fail)
    request.setEncoding('utf8')
    request.on('data', (piece: string) => (text += piece))
    request.on('end', () => (timer.cancel(), resolve(text)))
    request.end()
  })
    .then((text) => holderIn(text, url))
    .finally(() => session.destroy())
}

function holderIn(text: string, url: string): LeaseHolder {
  const info = parseNodeInfo(text)
  if (info?.isPrimary !== true) throw new ClusterError('NO_PRIMARY', `${url} answers, but is not a primary`)
  const { litefleet } = info
  return {
    hostname: info.primaryHostname,
    advertiseUrl: url,
    grpcAddress: litefleet?.grpc,
    name: litefleet?.name ?? info.primaryHostname,
    nodeId: '',
    region: litefleet?.region ?? '',
    protocol: litefleet?.protocol,
  }
}
