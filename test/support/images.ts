/** The pages of a live database as one buffer, read through a fresh connection, as any other program would see them. */
import Database from 'better-sqlite3'

export function imageOf(file: string): Buffer {
  const connection = new Database(file, { readonly: true, fileMustExist: true })
  try {
    return connection.serialize()
  } finally {
    connection.close()
  }
}

/** Empty when the images are equal; otherwise which pages differ, for a message one can read. */
export function differingPages(a: Buffer, b: Buffer, pageSize: number): string {
  if (a.equals(b)) return ''
  const pages: number[] = []
  for (let at = 0; at < Math.max(a.length, b.length); at += pageSize) {
    if (!a.subarray(at, at + pageSize).equals(b.subarray(at, at + pageSize))) pages.push(at / pageSize + 1)
  }
  return `${a.length} and ${b.length} bytes, pages ${pages.slice(0, 10).join(', ')}${pages.length > 10 ? ' …' : ''} differ`
}

export function integrityOf(file: string): unknown {
  const connection = new Database(file, { readonly: true, fileMustExist: true })
  try {
    return connection.pragma('integrity_check', { simple: true })
  } finally {
    connection.close()
  }
}
