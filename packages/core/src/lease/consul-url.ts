/**
 * Where a Consul is and what belongs to this cluster there, in one URL as LiteFS and Fly.io have it:
 * `http(s)://[:token@]host[:port][/prefix]`. The path is the prefix of all keys, the password is the token of Consul's access control.
 */
import { invalidOption } from '../errors/unknown-option.ts'

export interface ConsulAddress {
  /** `http://host:port`, without the token. */
  readonly origin: string
  /** Of all keys, without slashes around it; empty: none. */
  readonly prefix: string
  /** A secret. */
  readonly token: string | undefined
}

const PORT = { 'http:': '8500', 'https:': '443' } as const

/** Throws `INVALID_OPTION`, without the URL: it may hold a token. */
export function parseConsulUrl(text: unknown, where: string, option: string): ConsulAddress {
  const url = typeof text === 'string' ? URL.parse(text) : null
  const protocol = url?.protocol
  if (url === null || url.hostname === '' || (protocol !== 'http:' && protocol !== 'https:')) {
    return invalidOption(where, option, undefined, '"http(s)://[:token@]host[:port][/prefix]"')
  }
  const port = url.port === '' && protocol === 'http:' ? `:${PORT[protocol]}` : url.port === '' ? '' : `:${url.port}`
  return {
    origin: `${protocol}//${url.hostname}${port}`,
    prefix: decodeURIComponent(url.pathname).replace(/^\/+|\/+$/g, ''),
    token: url.password === '' ? undefined : decodeURIComponent(url.password),
  }
}
