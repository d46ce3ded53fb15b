/** `Exchange` over HTTP/1.1 (node:http) and over HTTP/2 (node:http2, core API). */
import type { IncomingMessage, ServerResponse } from 'node:http'
import http2, { type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { Writable } from 'node:stream'
import type { Exchange } from './exchange.ts'

export function http1Exchange(request: IncomingMessage, response: ServerResponse): Exchange {
  const { socket } = request
  return {
    httpMajor: 1,
    method: request.method ?? '',
    ...splitTarget(request.url ?? '/'),
    headers: request.headers,
    remoteAddress: `${socket.remoteAddress ?? ''}:${socket.remotePort ?? ''}`,
    body: request,
    closed: abortOnClose(response),
    respond(status, headers): Writable {
      response.writeHead(status, headers)
      response.flushHeaders()
      return response
    },
    reset: () => socket.destroy(),
  }
}

export function http2Exchange(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Exchange {
  const socket = stream.session?.socket
  return {
    httpMajor: 2,
    method: headers[':method'] ?? '',
    ...splitTarget(headers[':path'] ?? '/'),
    headers,
    remoteAddress: `${socket?.remoteAddress ?? ''}:${socket?.remotePort ?? ''}`,
    body: stream,
    closed: abortOnClose(stream),
    respond(status, answered): Writable {
      if (!stream.destroyed && !stream.closed) stream.respond({ ':status': status, ...answered })
      // A body the caller goes on sending would keep the stream half open for ever.
      stream.once('finish', () => stream.close(http2.constants.NGHTTP2_NO_ERROR))
      return stream
    },
    // `close` with an error code would end the body first, and half of it would look whole.
    reset: () => void stream.destroy(new Error('the answer was broken off')),
  }
}

/** Path and query of a request target; a target that is no path (`*`, an absolute URL) matches no route. */
function splitTarget(target: string): { readonly path: string; readonly query: URLSearchParams } {
  const mark = target.indexOf('?')
  if (mark < 0) return { path: target, query: new URLSearchParams() }
  return { path: target.slice(0, mark), query: new URLSearchParams(target.slice(mark + 1)) }
}

function abortOnClose(stream: Writable): AbortSignal {
  const closed = new AbortController()
  stream.once('close', () => closed.abort(new Error('the caller is gone')))
  return closed.signal
}
