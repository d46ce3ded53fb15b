/**
 * LiteFS's own replacement of variables in its configuration, before it is read as YAML (v0.5.14, `ExpandEnv`; Go's `os.Expand`):
 *
 *   $VAR  ${VAR}              the variable; one that is not set gives nothing
 *   ${A == 'x'}  ${A != "x"}  `true` or `false`
 *   ${A == B}                 the same of two variables
 *
 * It knows no escape, and does not spare comments. A `$` that no name follows stays; of a `${` that nothing closes, only the rest stays.
 */
const REFERENCE = /\$(?:\{([^}]*)\}|\{|(\d|[A-Za-z_]\w*|[*#$@!?-]))/g
const COMPARISON = /^(\w+)\s*(==|!=)\s*(?:'(.*)'|"(.*)"|(\w+))$/

export function expandLiteFsVariables(text: string, env: NodeJS.ProcessEnv): string {
  // An object has names that no environment set, such as `toString`.
  const valueOf = (name: string): string => (Object.hasOwn(env, name) ? (env[name] ?? '') : '')
  return text.replace(REFERENCE, (_whole, braced: string | undefined, bare: string | undefined) => {
    const expression = (braced ?? bare ?? '').trim()
    const [, name, operator, single, double, other] = COMPARISON.exec(expression) ?? []
    if (name === undefined) return valueOf(expression)
    const wanted = single ?? double ?? valueOf(other ?? '')
    return String((valueOf(name) === wanted) === (operator === '=='))
  })
}
