import { describe, expect, it } from 'vitest'
import { ChannelSender } from './channel-sender.ts'
import type { PeerMessage } from './wire-messages.ts'

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))

function setup(wanted: (item: number) => boolean = () => true) {
  const sent: (number[] | string)[] = []
  const dones: (() => void)[] = []
  const sender = new ChannelSender<number>({
    write: (message: PeerMessage, done) => {
      sent.push(message.goodbye?.reason ?? (message.requests?.requests.map(({ id }) => id) as number[]))
      dones.push(done)
    },
    batch(items) {
      const kept = items.filter(wanted)
      return kept.length === 0 ? undefined : { requests: { requests: kept.map((id) => ({ id })) as never } }
    },
  })
  const notice = (reason: string) => sender.notice(reason.split(' ')[0] as string, () => ({ goodbye: { reason } }))
  return { sent, dones, sender, notice }
}

describe('ChannelSender', () => {
  it('puts everything of one turn into one message, in order', async () => {
    const { sent, sender } = setup()
    for (let i = 0; i < 100; i++) sender.push(i, 10)
    await Promise.resolve().then(() => sender.push(100, 10))
    expect(sent).toEqual([])
    await turn()
    expect(sent).toEqual([Array.from({ length: 101 }, (_, i) => i)])
  })

  it('collects while two messages are under way, and sends the rest in one', async () => {
    const { sent, dones, sender } = setup()
    for (let i = 0; i < 5; i++) {
      sender.push(i, 1)
      await turn()
    }
    expect(sent).toEqual([[0], [1]])
    dones[0]?.()
    await turn()
    expect(sent).toEqual([[0], [1], [2, 3, 4]])
  })

  it('splits by bytes and by count, and lets one large item travel alone', async () => {
    const { sent, dones, sender } = setup()
    sender.push(0, 1)
    sender.push(1, 5 << 20)
    sender.push(2, 1)
    await turn()
    dones[0]?.()
    await turn()
    expect(sent).toEqual([[0], [1], [2]])
    for (let i = 0; i < 1_500; i++) sender.push(i, 1)
    for (const done of dones.slice(1)) done()
    await turn()
    expect(sent.slice(3).map((ids) => ids.length)).toEqual([1_024, 476])
  })

  it('sends notices before items, and of one name only the newest', async () => {
    const { sent, sender, notice } = setup()
    sender.push(1, 1)
    notice('a 1')
    notice('a 2')
    await turn()
    expect(sent).toEqual(['a 2', [1]])
  })

  it('leaves out items that nobody wants any more, without an empty message', async () => {
    const { sent, sender } = setup((item) => item > 5)
    for (let i = 0; i < 5; i++) sender.push(i, 1)
    await turn()
    expect(sent).toEqual([])
    sender.push(9, 1)
    await turn()
    expect(sent).toEqual([[9]])
  })

  it('answers on close exactly what was never handed to the transport, and sends nothing after it', async () => {
    const { sent, dones, sender, notice } = setup()
    for (const i of [0, 1]) {
      sender.push(i, 1)
      await turn()
    }
    sender.push(2, 1)
    sender.push(3, 1)
    expect(sender.close()).toEqual([2, 3])
    sender.push(4, 1)
    notice('late')
    for (const done of dones) done()
    await turn()
    expect(sent).toEqual([[0], [1]])
  })

  it('is drained when the transport has taken everything, or at the close', async () => {
    const { dones, sender } = setup()
    await sender.drained()
    let drained = 0
    sender.push(0, 1)
    void sender.drained().then(() => drained++)
    await turn()
    expect(drained).toBe(0)
    dones[0]?.()
    await turn()
    expect(drained).toBe(1)
    sender.push(1, 1)
    void sender.drained().then(() => drained++)
    sender.close()
    await turn()
    expect(drained).toBe(2)
  })
})
