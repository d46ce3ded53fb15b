/** Targets that do what no decoder may: the fuzzer has to notice, name the input and go on. */
import type { FuzzTarget } from '../target.ts'

function misbehaving(name: string, run: (input: Buffer) => void): FuzzTarget {
  const bound = { perByte: 4, constant: 1024 * 1024 }
  return { name, codes: [], bound, weight: 1, corpus: () => [Buffer.from('abc')], run }
}

const isBad = (input: Buffer): boolean => input.length % 16 === 5

export const misbehavingTargets: readonly FuzzTarget[] = [
  misbehaving('hangs', (input) => {
    while (isBad(input)) input.fill(1)
  }),
  misbehaving('dies', (input) => {
    if (isBad(input)) process.kill(process.pid, 'SIGSEGV')
  }),
  misbehaving('throws', (input) => {
    if (isBad(input)) throw new TypeError('no')
  }),
  misbehaving('leaks', (input) => {
    if (isBad(input)) Buffer.alloc(64 * 1024 * 1024)
  }),
]
