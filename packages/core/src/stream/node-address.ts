/** Where a node listens, from its URL. Plain connections whatever the scheme says, as LiteFS. */

/** @param route where to connect for an address, both `host:port` */
export function addressOf(url: URL, route: (address: string) => string): { host: string; port: number } {
  const asked = `${url.hostname}:${url.port || (url.protocol === 'https:' ? '443' : '80')}`
  const routed = route(asked)
  const colon = routed.lastIndexOf(':')
  return { host: routed.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(routed.slice(colon + 1)) }
}
