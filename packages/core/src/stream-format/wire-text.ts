/** Names and ids on the wire are UTF-8. */

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The text, or `undefined` when the bytes are not UTF-8: a replaced character would make two names one. */
export function decodeText(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes)
  } catch {
    return undefined
  }
}
