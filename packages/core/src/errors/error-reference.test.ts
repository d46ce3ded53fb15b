import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { renderErrorReference } from './error-reference.ts'

it('docs/errors.md is what the table says', () => {
  const written = readFileSync(new URL('../../../../docs/errors.md', import.meta.url), 'utf8')
  expect(written, 'run `pnpm run docs`').toBe(renderErrorReference())
})
