/**
 * How much one run allocates: growth of the heap and of memory outside of it (buffers), and every request for a large buffer,
 * also one that failed or was freed again at once.
 *
 * Exact to some hundred KiB, because V8 hands out memory in pages; the constants of the bounds allow for that. A collection
 * in the middle of a run hides what it freed: garbage of earlier runs too, so `settle` is called now and then between runs.
 * What a run holds on to, and every large buffer, shows in any case.
 */
import v8 from 'node:v8'
import vm from 'node:vm'

/** Requests smaller than this are left to the statistics of the heap. */
const LARGE_BYTES = 256 * 1024

type Collect = (options: { readonly type: 'minor' }) => void
type BufferMaker = (size: number, ...rest: never[]) => Buffer

export class AllocationMeter {
  #before = 0
  #requested = 0
  readonly #collect: Collect

  /** From here on large requests of the whole process are counted. To be made once. */
  constructor() {
    v8.setFlagsFromString('--expose-gc')
    this.#collect = vm.runInNewContext('gc') as Collect
    for (const name of ['alloc', 'allocUnsafe', 'allocUnsafeSlow'] as const) this.#watchBuffer(name)
    this.#watchConstructor('ArrayBuffer')
    this.#watchConstructor('Uint32Array')
    this.#watchConstructor('Float64Array')
  }

  /** Collects the garbage of earlier runs, so that it is not collected in the middle of the next. */
  settle(): void {
    this.#collect({ type: 'minor' })
  }

  begin(): void {
    this.#requested = 0
    this.#before = used()
  }

  /** Bytes since `begin`. */
  end(): number {
    return Math.max(used() - this.#before, this.#requested)
  }

  #note(size: unknown): void {
    if (typeof size === 'number' && size >= LARGE_BYTES) this.#requested += size
  }

  #watchBuffer(name: 'alloc' | 'allocUnsafe' | 'allocUnsafeSlow'): void {
    const real = Buffer[name].bind(Buffer) as BufferMaker
    const watched = (size: number, ...rest: never[]): Buffer => {
      this.#note(size)
      return real(size, ...rest)
    }
    Object.defineProperty(Buffer, name, { value: watched, configurable: true, writable: true })
  }

  #watchConstructor(name: 'ArrayBuffer' | 'Uint32Array' | 'Float64Array'): void {
    const width = name === 'ArrayBuffer' ? 1 : globalThis[name].BYTES_PER_ELEMENT
    const watched = new Proxy(globalThis[name], {
      construct: (target, args: [number], newTarget) => {
        if (typeof args[0] === 'number') this.#note(args[0] * width)
        return Reflect.construct(target, args, newTarget) as object
      },
    })
    Object.defineProperty(globalThis, name, { value: watched, configurable: true, writable: true })
  }
}

function used(): number {
  const { used_heap_size: heap, external_memory: external } = v8.getHeapStatistics()
  return heap + external
}
