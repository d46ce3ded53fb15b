/**
 * Splits SQL text into tokens exactly where SQLite's own tokenizer does, as far as the leading words and the parameters of a
 * statement need it. It never judges: text SQLite would reject comes out as symbols, and SQLite rejects it afterwards.
 *
 * What SQLite skips between tokens, and therefore in front of a `BEGIN`: space, tab, LF, FF, CR, a vertical tab (after one of
 * the others; alone it is an error), a byte order mark, `-- …` up to a line feed, and C comments, also unterminated ones.
 * A NUL ends the text.
 */
export interface SqlToken {
  /**
   * `word`: keyword or bare identifier. `name`: identifier in "…", `…` or […]. `string`: '…'. `number`. `parameter`: ?, ?1, :a, @a, $a.
   * `symbol`: one other character. `end`: no more tokens.
   */
  readonly kind: 'word' | 'name' | 'string' | 'number' | 'parameter' | 'symbol' | 'end'
  /** `word` as written, `name` and `string` without their quotes, `parameter` with its prefix. */
  readonly text: string
  /** Where the token ends in the text. */
  readonly end: number
}

const SPACE = /[ \t\n\v\f\r\uFEFF]/y
const WORD = /[A-Za-z_\u0080-\uFFFF][\w$\u0080-\uFFFF]*/y
const NUMBER = /(?:\d|\.\d)[\w.]*/y
// Tcl forms: $name::part(anything); one that is not closed goes as far as SQLite reads before it rejects the statement.
const PARAMETER = /\?\d*|[@:#][\w$\u0080-\uFFFF]+|\$(?:[\w$\u0080-\uFFFF]|::)+(?:\([^ \t\n\v\f\r)]*\)?)?/y

export class SqlTokens {
  readonly #sql: string
  readonly #end: number
  #at = 0

  constructor(sql: string) {
    this.#sql = sql
    const nul = sql.indexOf('\0')
    this.#end = nul < 0 ? sql.length : nul
  }

  next(): SqlToken {
    this.#skip()
    const start = this.#at
    if (start >= this.#end) return { kind: 'end', text: '', end: this.#end }
    const quote = this.#sql.charAt(start)
    if (quote === "'") return this.#quoted('string', "'")
    if (quote === '"' || quote === '`') return this.#quoted('name', quote)
    if (quote === '[') return this.#bracketed()
    return (
      this.#match('word', WORD) ??
      this.#match('number', NUMBER) ??
      this.#match('parameter', PARAMETER) ??
      this.#symbol()
    )
  }

  #skip(): void {
    for (;;) {
      SPACE.lastIndex = this.#at
      if (SPACE.test(this.#sql)) this.#at++
      else if (this.#sql.startsWith('--', this.#at)) this.#skipPast('\n', this.#at + 2)
      // SQLite takes a lone "/*" at the very end for an operator, which it then rejects; skipping it changes nothing.
      else if (this.#sql.startsWith('/*', this.#at)) this.#skipPast('*/', this.#at + 2)
      else return
    }
  }

  #skipPast(mark: string, from: number): void {
    const found = this.#sql.indexOf(mark, from)
    this.#at = found < 0 ? this.#end : found + mark.length
  }

  /** A quote is written twice to stand for itself. */
  #quoted(kind: 'name' | 'string', quote: string): SqlToken {
    const start = this.#at + 1
    let close = this.#sql.indexOf(quote, start)
    while (close >= 0 && this.#sql.charAt(close + 1) === quote) close = this.#sql.indexOf(quote, close + 2)
    const end = close < 0 || close > this.#end ? this.#end : close
    this.#at = Math.min(end + 1, this.#end)
    return { kind, text: this.#sql.slice(start, end).replaceAll(quote + quote, quote), end: this.#at }
  }

  #bracketed(): SqlToken {
    const start = this.#at + 1
    this.#skipPast(']', start)
    return { kind: 'name', text: this.#sql.slice(start, this.#at).replace(/\]$/, ''), end: this.#at }
  }

  #match(kind: SqlToken['kind'], pattern: RegExp): SqlToken | undefined {
    pattern.lastIndex = this.#at
    const text = pattern.exec(this.#sql)?.[0]
    if (text === undefined) return undefined
    this.#at += text.length
    return { kind, text, end: this.#at }
  }

  #symbol(): SqlToken {
    return { kind: 'symbol', text: this.#sql.charAt(this.#at++), end: this.#at }
  }
}
