/**
 * `pnpm demo`: a bank on several nodes, each a process of its own, under load, with its books checked in the end.
 *
 * The nodes run on this machine and keep their data in a temporary directory. The load generator in this process sends most
 * writes to replicas, which forward them; every node answers reads from its own copy. The last line is `demo: ok`, or
 * `demo: FAILED <why>` with exit code 1.
 *
 * Relies on: nodes end by themselves when this process dies (see node.ts).
 * Promises: whatever happens, Ctrl-C included, no node is left running and the temporary directory is removed.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createHistogram } from 'node:perf_hooks'
import { BankProcess } from './demo/bank-process.ts'
import { type DemoOptions, parseDemoOptions, REGIONS, USAGE } from './demo/demo-options.ts'
import { type FailoverReport, failOver, WritePauses } from './demo/failover.ts'
import { findFaults } from './demo/final-check.ts'
import { LagMeter } from './demo/lag-meter.ts'
import { Ledger } from './demo/ledger.ts'
import { CUSTOMERS, LoadGenerator } from './demo/load-generator.ts'
import { LiveTable, type NodeRow } from './demo/live-table.ts'
import type { ReadyMessage, ReportMessage } from './src/supervisor-messages.ts'

const SETTLE_TIMEOUT_MS = 10_000

/** What is known of one node, from its reports. */
interface NodeView {
  readonly name: string
  role: string
  position: string
  /** Since the last row of the table. */
  writes: number
  reads: number
}

class Demo {
  readonly #options: DemoOptions
  readonly #directory: string
  readonly #nodes: BankProcess[] = []
  readonly #views: readonly NodeView[]
  readonly #lag: LagMeter
  readonly #forwardMs = createHistogram()
  readonly #ledger = new Ledger(CUSTOMERS)
  readonly #pauses = new WritePauses()
  readonly #interrupted: AbortSignal
  /** The node that was killed on purpose. */
  #away: BankProcess | undefined

  constructor(options: DemoOptions, directory: string, interrupted: AbortSignal) {
    this.#options = options
    this.#directory = directory
    this.#interrupted = interrupted
    const names = REGIONS.slice(0, options.nodes)
    this.#views = names.map((name) => ({ name, role: 'starting', position: '', writes: 0, reads: 0 }))
    this.#lag = new LagMeter(names.slice(1))
  }

  /** Answers why it failed; `undefined` when all is well. */
  async run(): Promise<string | undefined> {
    await this.#startNodes()
    const { failover, seconds: lastSecond } = this.#options
    const load = new LoadGenerator(
      this.#nodes.map((node, index) => ({ name: node.name, url: node.ready.url, isPrimary: index === 0 })),
      this.#ledger,
      failover ? this.#pauses : undefined,
    )
    const startedMs = performance.now()
    load.start()
    const table = new LiveTable(process.stdout)
    let failing: Promise<FailoverReport> | undefined
    for (let second = 1; second <= lastSecond; second++) {
      await this.#sleep(startedMs + second * 1000 - performance.now())
      if (this.#interrupted.aborted || this.#faultOfProcesses() !== undefined) break
      table.draw(second, this.#rows())
      if (failover && second === Math.floor(lastSecond / 2)) {
        failing = this.#failOver()
        failing.catch(() => undefined) // told when it is awaited
      }
    }
    const failedOver = await failing
    await load.stop()
    const seconds = (performance.now() - startedMs) / 1000
    if (this.#interrupted.aborted) return 'interrupted'
    await this.#settle()
    const faults = this.#faultOfProcesses() ?? this.#faultsFound()
    await this.#summarize(load, seconds, failedOver, faults === undefined)
    if (this.#options.keep && faults === undefined) await this.#stayUp()
    return faults
  }

  async close(): Promise<void> {
    await Promise.all(this.#nodes.toReversed().map((node) => node.stop()))
  }

  killNow(): void {
    for (const node of this.#nodes) node.killNow()
  }

  async #startNodes(): Promise<void> {
    const starting: Promise<BankProcess>[] = []
    for (const [index, view] of this.#views.entries()) {
      this.#interrupted.throwIfAborted()
      const node = this.#start(index, this.#nodes[0]?.ready.http)
      starting.push(node)
      // Nobody takes office before a majority is there: they start together.
      if (!this.#options.failover) this.#nodes.push(await node)
      view.role = index === 0 && !this.#options.failover ? 'primary' : 'replica'
    }
    if (this.#options.failover) this.#nodes.push(...(await Promise.all(starting)))
    for (const [index, node] of this.#nodes.entries())
      console.log(`${node.name}: ${this.#views[index]!.role}, process ${node.pid}, bank on ${node.ready.url}`)
  }

  #start(index: number, primary: string | undefined, addresses?: ReadyMessage): Promise<BankProcess> {
    const { name } = this.#views[index]!
    const voters = this.#views.map((view) => view.name)
    return BankProcess.start({
      name,
      dataDir: path.join(this.#directory, name),
      primary: this.#options.failover ? undefined : primary,
      election: this.#options.failover ? { directory: path.join(this.#directory, 'lease'), voters } : undefined,
      addresses,
      onReport: (report) => this.#take(index, report),
    })
  }

  async #failOver(): Promise<FailoverReport> {
    const indexOf = (node: BankProcess): number => this.#nodes.indexOf(node)
    return failOver({
      pauses: this.#pauses,
      primary: () => this.#nodes.find((node) => this.#views[indexOf(node)]?.role === 'primary'),
      restart: async (node) => {
        const index = indexOf(node)
        this.#nodes[index] = await this.#start(index, undefined, node.ready)
      },
      killed: (node) => {
        this.#away = node
        this.#views[indexOf(node)]!.role = 'killed'
      },
    })
  }

  #take(index: number, { role, position, metrics }: ReportMessage): void {
    const view = this.#views[index]!
    view.role = role
    view.position = position
    view.writes += metrics.writes
    view.reads += metrics.reads
    if (this.#options.failover) {
      for (const ms of metrics.writeMs) this.#forwardMs.record(Math.max(1, Math.round(ms * 1e6)))
    } else if (index === 0) {
      this.#lag.primaryAdvanced(metrics.advances)
    } else {
      this.#lag.replicaAdvanced(view.name, metrics.advances)
      for (const ms of metrics.writeMs) this.#forwardMs.record(Math.max(1, Math.round(ms * 1e6)))
    }
  }

  #rows(): readonly NodeRow[] {
    return this.#views.map((view, index) => {
      const { name, role, position, writes, reads } = view
      view.writes = view.reads = 0
      const lagMs = index === 0 || this.#options.failover ? undefined : this.#lag.takeRecentMs(name)
      return { name, role, txid: position.slice(0, 16), lagMs, writesPerSecond: writes, readsPerSecond: reads }
    })
  }

  /** Until every node has reported the same position, or the time is up and the check will say what differs. */
  async #settle(): Promise<void> {
    const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS
    // Reports on their way when the load ended are older than the last answer.
    await this.#sleep(500)
    while (performance.now() < deadlineMs && new Set(this.#views.map((view) => view.position)).size > 1) {
      await this.#sleep(50)
    }
  }

  #faultOfProcesses(): string | undefined {
    return this.#nodes
      .map((node) => (node === this.#away ? undefined : node.ended))
      .find((ended) => ended !== undefined)
  }

  #faultsFound(): string | undefined {
    const checked = this.#nodes.map((node, index) => ({
      name: node.name,
      databasePath: node.ready.databasePath,
      position: this.#views[index]!.position,
    }))
    const faults = findFaults(checked, this.#ledger)
    return faults.length === 0 ? undefined : faults.join('; ')
  }

  async #summarize(
    load: LoadGenerator,
    seconds: number,
    failover: FailoverReport | undefined,
    ok: boolean,
  ): Promise<void> {
    const forwardMs = { p50: percentileMs(this.#forwardMs, 50), p99: percentileMs(this.#forwardMs, 99) }
    const lagMs = { p50: round(this.#lag.percentileMs(50)), p99: round(this.#lag.percentileMs(99)) }
    const summary = {
      seconds: round(seconds),
      writes: this.#ledger.accepted,
      forwardedWrites: load.acceptedAtReplicas,
      refusedWrites: this.#ledger.refused,
      reads: load.reads,
      writesPerSecond: Math.round(this.#ledger.accepted / seconds),
      readsPerSecond: Math.round(load.reads / seconds),
      forwardMs,
      lagMs,
      ...(failover === undefined ? {} : { failover: { ...failover, repeats: load.repeats } }),
      nodes: this.#views.map(({ name, role, position }) => {
        const [txid, checksum] = position.split('/')
        return { name, role, txid, checksum }
      }),
      ok,
    }
    console.log('')
    console.log(
      `${summary.writes} writes accepted (${summary.forwardedWrites} forwarded by replicas), ` +
        `${summary.refusedWrites} refused by the trigger, ${summary.reads} reads in ${seconds.toFixed(1)} s`,
    )
    console.log(`throughput       ${summary.writesPerSecond} writes/s, ${summary.readsPerSecond} reads/s`)
    console.log(`forward latency  p50 ${forwardMs.p50} ms, p99 ${forwardMs.p99} ms`)
    if (failover === undefined) console.log(`lag              p50 ${lagMs.p50} ms, p99 ${lagMs.p99} ms`)
    for (const node of summary.nodes)
      console.log(`${node.name.padEnd(4)} ${node.role.padEnd(8)} TXID ${node.txid} checksum ${node.checksum}`)
    if (failover !== undefined) {
      const { killed, successor, pauseMs, slowestMs } = failover
      console.log(`failover         ${killed} was killed, ${successor} took office, ${killed} came back as a replica`)
      console.log(
        `pause            no write was answered for ${Math.round(pauseMs)} ms; the slowest took ${Math.round(slowestMs)} ms; ` +
          `${load.repeats} were sent again`,
      )
      console.log(`acknowledged     ${this.#ledger.accepted} at majority, ${ok ? 'none' : 'see below what'} lost`)
    }
    if (this.#options.json !== undefined) await writeFile(this.#options.json, `${JSON.stringify(summary, null, 2)}\n`)
  }

  async #stayUp(): Promise<void> {
    const primary = this.#nodes[0]!.ready
    const replica = this.#nodes[1]!.ready
    console.log(`
The nodes stay up until Ctrl-C. Try:
  curl -s ${replica.url}/clientes/1/extrato
  curl -s -X POST ${replica.url}/clientes/1/transacoes -H 'content-type: application/json' -d '{"valor":100,"tipo":"c","descricao":"hello"}'
  curl -s ${primary.url}/clientes/1/extrato
  curl -s ${primary.http}/info
  npx -y pnpm@10 exec litefleet status --node ${primary.grpc}`)
    while (!this.#interrupted.aborted) await this.#sleep(1000)
  }

  /** Ends early, without an error, when the demo is interrupted. */
  async #sleep(delayMs: number): Promise<void> {
    if (this.#interrupted.aborted) return
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        this.#interrupted.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, Math.max(0, delayMs))
      this.#interrupted.addEventListener('abort', done)
    })
  }
}

function percentileMs(
  histogram: { readonly count: number; percentile(percent: number): number },
  percent: number,
): number {
  return histogram.count === 0 ? 0 : round(histogram.percentile(percent) / 1e6)
}

function round(value: number): number {
  return Number(value.toFixed(2))
}

async function main(): Promise<number> {
  let options: DemoOptions
  try {
    options = parseDemoOptions(process.argv.slice(2))
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`)
    return 2
  }
  const interrupt = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      // The second time somebody means it; the nodes are killed on the way out.
      if (interrupt.signal.aborted) process.exit(130)
      interrupt.abort(new Error('interrupted'))
    })
  }
  const directory = await mkdtemp(path.join(tmpdir(), 'litefleet-demo-'))
  const demo = new Demo(options, directory, interrupt.signal)
  process.on('exit', () => demo.killNow())
  let failure: string | undefined
  try {
    failure = await demo.run()
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error)
  } finally {
    await demo.close()
    await rm(directory, { recursive: true, force: true })
  }
  console.log(failure === undefined ? 'demo: ok' : `demo: FAILED ${failure.replaceAll('\n', ' | ')}`)
  return failure === undefined ? 0 : 1
}

process.exitCode = await main()
