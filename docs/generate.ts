/** `pnpm docs`: writes the documents that are made from code. */
import { writeFileSync } from 'node:fs'
import { renderErrorReference } from '../packages/core/src/errors/error-reference.ts'

writeFileSync(new URL('errors.md', import.meta.url), renderErrorReference())
