/** The lease that the options ask for. */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import { ConsulLease } from '../lease/consul-lease.ts'
import { EtcdLease } from '../lease/etcd-lease.ts'
import { HostLease } from '../lease/host-lease.ts'
import type { EpochCounter, Lease } from '../lease/lease.ts'
import type { LeaseHolder } from '../lease/lease-holder.ts'
import { createStaticLease } from '../lease/static-lease.ts'
import type { ResolvedEtcdLease, ResolvedLease } from '../options/lease-options.ts'
import type { InfoClient } from '../stream/info-client.ts'

export interface CreateLeaseParts {
  readonly options: ResolvedLease
  readonly clock: Clock
  readonly disk: Disk
  readonly epochs: EpochCounter
  /** Asks a node who it is. */
  readonly info: InfoClient
  /** Where to connect for an address, both `host:port`. */
  route(address: string): string
  random(): number
}

/** Throws `INVALID_OPTION` for a file that cannot be read, `STORAGE_FAILED`. */
export function createLease(parts: CreateLeaseParts): Lease {
  const { options, clock, disk, epochs, info } = parts
  const random = (): number => parts.random()
  switch (options.kind) {
    case 'host':
      return new HostLease({ directory: options.directory, isCandidate: options.candidate, disk, clock })
    case 'etcd': {
      const { caFile, candidate, ...rest } = options
      const ca = caFile === undefined ? undefined : readCa(disk, caFile)
      return new EtcdLease({ ...rest, ca, isCandidate: candidate, clock, random, route: (to) => parts.route(to) })
    }
    case 'consul': {
      const { candidate, kind: _kind, ...rest } = options
      return new ConsulLease({ ...rest, isCandidate: candidate, clock, random, route: (to) => parts.route(to) })
    }
    default: {
      const probe = (url: string, signal: AbortSignal) => probePrimary(info, url, signal)
      return createStaticLease({ primary: options.primary, clock, epochs, probe, random })
    }
  }
}

function readCa(disk: Disk, file: NonNullable<ResolvedEtcdLease['caFile']>): Buffer {
  const content = disk.readWhole('lease.read-ca', file)
  if (content?.includes('-----BEGIN CERTIFICATE-----') === true) return content
  throw new ClusterError(
    'INVALID_OPTION',
    `openCluster: lease.caFile "${file}" ${content === undefined ? 'does not exist' : 'holds no certificate'}`,
    {
      hint: 'It accepts a PEM file with the certificate of the authority that signed the certificates of lease.endpoints.',
    },
  )
}

async function probePrimary(info: InfoClient, url: string, signal: AbortSignal): Promise<LeaseHolder> {
  const answer = await info.ask(url, signal)
  if (!answer.isPrimary) throw new ClusterError('NO_PRIMARY', `${url} answers, but is not a primary`)
  const { litefleet } = answer
  return {
    hostname: answer.primaryHostname,
    advertiseUrl: url,
    grpcAddress: litefleet?.grpc,
    name: litefleet?.name ?? answer.primaryHostname,
    nodeId: answer.nodeId?.toLowerCase() ?? '',
    region: litefleet?.region ?? '',
    protocol: litefleet?.protocol,
  }
}
