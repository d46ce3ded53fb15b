/**
 * A YAML text (JSON is YAML) from a file that a person wrote, read into plain values.
 *
 * Promises: whatever is wrong with the text is an `INVALID_OPTION` that names the file, also an alias that leads nowhere or too far.
 */
import { ClusterError } from '@litefleet/core'
import { type Document, type DocumentOptions, type ParseOptions, parseDocument, type SchemaOptions } from 'yaml'

/** Longest document: the parser compares each key of a map with all before it. */
const TEXT_LENGTH_MAX = 128 * 1024

/**
 * @param where what the text is, for messages, e.g. the file's name
 * @throws ClusterError `INVALID_OPTION`
 */
export function parseYaml(
  text: string,
  where: string,
  options: ParseOptions & DocumentOptions & SchemaOptions = {},
): Document.Parsed {
  if (text.length > TEXT_LENGTH_MAX) {
    throw new ClusterError('INVALID_OPTION', `${where}: it is longer than ${TEXT_LENGTH_MAX} characters`)
  }
  const document = parseDocument(text, { prettyErrors: true, ...options })
  const [problem] = document.errors
  if (problem === undefined) return document
  if (problem.code === 'MULTIPLE_DOCS') {
    throw new ClusterError('INVALID_OPTION', `${where}: it holds more than one YAML document`, {
      hint: 'Keep the first, and nothing after the line "---" that ends it.',
      cause: problem,
    })
  }
  throw new ClusterError('INVALID_OPTION', `${where}: ${problem.message.split('\n')[0] ?? 'not YAML'}`, {
    cause: problem,
  })
}

/**
 * Aliases are followed here: one that leads nowhere, or too many of them, is found only now.
 * @throws ClusterError `INVALID_OPTION`
 */
export function valueOf(document: Document.Parsed, where: string): unknown {
  try {
    return document.toJS()
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new ClusterError('INVALID_OPTION', `${where}: ${reason}`, { cause: error })
  }
}
