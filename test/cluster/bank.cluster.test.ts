/**
 * The bank example over HTTP: phases A to E of the Rinha simulation, on two processes behind a round-robin balancer.
 *
 * Phase E reads through either node right after a write through either node, without cookie or token. With the await level
 * `local` only the node that took the write must show it; that a read at once through the *other* node shows it too is not
 * promised, so those reads may wait for it here, and what is asked of the writing node is asked strictly.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BankProcess } from '../../examples/bank/demo/bank-process.ts'
import { RoundRobin, startBank } from '../support/bank-nodes.ts'

const LIMITS = [100_000, 80_000, 1_000_000, 10_000_000, 500_000] as const
let directory = ''
let nodes: readonly BankProcess[] = []
let balancer: RoundRobin
let replica: RoundRobin

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'litefleet-bank-'))
  nodes = await startBank(directory, ['gru', 'lhr'])
  balancer = new RoundRobin(nodes.map((node) => node.ready.url))
  replica = new RoundRobin([nodes[1]!.ready.url])
})
afterAll(async () => {
  for (const node of nodes.toReversed()) await node.stop()
  rmSync(directory, { recursive: true, force: true })
})

describe('two nodes behind a balancer', () => {
  test.each([
    ['d', -25],
    ['c', 0],
  ])('25 concurrent transfers of kind %s all succeed and add up on both nodes', async (tipo, total) => {
    const results = await Promise.all(
      Array.from({ length: 25 }, () => balancer.transfer(1, { valor: 1, tipo, descricao: 'validacao' })),
    )
    expect(results.map((result) => result.status)).toEqual(Array.from({ length: 25 }, () => 200))
    for (const node of nodes) {
      const one = new RoundRobin([node.ready.url])
      await expect.poll(async () => (await one.statement(1)).body?.saldo.total).toBe(total)
    }
  })

  test('an unknown customer is 404 on both nodes, for reads and writes', async () => {
    for (const node of nodes) {
      const one = new RoundRobin([node.ready.url])
      expect((await one.statement(6)).status).toBe(404)
      expect((await one.transfer(6, { valor: 1, tipo: 'c', descricao: 'x' })).status).toBe(404)
      expect((await one.statement('one')).status).toBe(404)
    }
  })

  test.each([1, 2, 3, 4, 5])('customer %i: a replica shows its own writes at once, newest first', async (customer) => {
    expect((await replica.statement(customer)).body?.saldo).toMatchObject({ total: 0, limite: LIMITS[customer - 1] })
    await replica.transfer(customer, { valor: 1, tipo: 'c', descricao: 'toma' })
    await replica.transfer(customer, { valor: 1, tipo: 'd', descricao: 'devolve' })
    const lines = (await replica.statement(customer)).body?.ultimas_transacoes.slice(0, 2)
    expect(lines?.map(({ valor, tipo, descricao }) => [valor, tipo, descricao])).toEqual([
      [1, 'd', 'devolve'],
      [1, 'c', 'toma'],
    ])

    const { body: answer } = await replica.transfer(customer, { valor: 1, tipo: 'c', descricao: 'danada' })
    const statements = await Promise.all(Array.from({ length: 4 }, () => replica.statement(customer)))
    for (const { body } of statements) {
      expect(body?.saldo).toMatchObject({ total: answer?.saldo, limite: answer?.limite })
      expect(body?.ultimas_transacoes[0]).toMatchObject({ valor: 1, tipo: 'c', descricao: 'danada' })
    }
    await expect.poll(async () => (await balancer.statement(customer)).body?.saldo.total).toBe(answer?.saldo)
  })

  test.each([
    { valor: 1.2, tipo: 'd', descricao: 'devolve' },
    { valor: 1, tipo: 'x', descricao: 'devolve' },
    { valor: 1, tipo: 'c', descricao: 'devolve e mais um pouco pra fora' },
    { valor: 1, tipo: 'c', descricao: '' },
    { valor: 1, tipo: 'c', descricao: null },
    'not json',
  ])('the body %j is 422 and changes nothing', async (body) => {
    expect((await balancer.transfer(1, body)).status).toBe(422)
    expect((await balancer.transfer(1, body)).status).toBe(422)
    expect((await balancer.statement(1)).body?.saldo.total).toBe(1)
  })

  test("the trigger's refusal crosses the network: a debit beyond the limit at a replica is 422 and changes nothing", async () => {
    const { status } = await replica.transfer(2, { valor: 80_002, tipo: 'd', descricao: 'too much' })
    expect(status).toBe(422)
    expect((await replica.statement(2)).body?.saldo.total).toBe(1)
    expect((await replica.transfer(2, { valor: 80_001, tipo: 'd', descricao: 'all of it' })).body).toEqual({
      limite: 80_000,
      saldo: -80_000,
    })
  })

  test('under an idempotency key a repeated transfer takes effect once', async () => {
    const send = async (): Promise<unknown> => {
      const response = await fetch(`${nodes[1]!.ready.url}/clientes/3/transacoes`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': 'the-same' },
        body: JSON.stringify({ valor: 7, tipo: 'c', descricao: 'once' }),
      })
      return response.json()
    }
    expect(await send()).toEqual({ limite: 1_000_000, saldo: 8 })
    expect(await send()).toEqual({ limite: 1_000_000, saldo: 8 })
    expect((await replica.statement(3)).body?.saldo.total).toBe(8)
  })
})
