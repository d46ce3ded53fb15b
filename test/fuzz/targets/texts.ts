/** Texts that people and programs write: the configuration of a node, SQL of a request or a migration. */
import { parseNodeConfig } from '../../../packages/server/src/node-config.ts'
import { splitStatements } from '../../../packages/core/src/request/split-statements.ts'
import { classifyRead, classifyStatement } from '../../../packages/core/src/request/statement-rules.ts'
import { type FuzzTarget, promise } from '../target.ts'

const CONFIGS = [
  `dataDir: ./data
node: { name: gru-1, region: gru }
lease: { kind: static, primary: true }
listen: { host: 127.0.0.1, grpcPort: 4201, httpPort: 4200 }
advertise: { grpc: "10.0.0.1:4201", http: "http://10.0.0.1:4200" }
clusterKeyFile: ./cluster.key
interop: false
log: { retentionMs: 600000 }
databases:
  - bank.db
  - { name: shop.db, migrations: ./migrations }
`,
  '{"dataDir": "/var/lib", "lease": {"kind": "static", "primary": {"url": "http://10.0.0.1:4200"}}, "databases": ["a.db"]}',
  'node: &n { name: a }\nlisten: *n\n',
  'base: &a [1]\nlog: [*a, *a]\n',
]

const YAML_TOKENS = [
  '&a ',
  '*a',
  '<<: ',
  '- ',
  '? ',
  ': ',
  '[',
  ']',
  '{',
  '}',
  '|\n',
  '!!binary ',
  '---\n',
  '...\n',
  '!!set ',
  '%YAML 1.1\n',
  '\t',
  '"',
  "'",
  '#',
  '__proto__: ',
  '!!omap ',
  '~',
  '.inf',
  '0x',
  '&a [*a, *a]',
]

const SQL = [
  "create table t (id integer primary key, name text); insert into t values (1, 'a;b'), (?1, $x::y(z));",
  'CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET name = "q" WHERE id = new.id; DELETE FROM t; END; select 1',
  '-- comment\n/* another */ PRAGMA main.user_version = 5; explain query plan select [a b] from `t` where x = :v and y = @w',
  "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a RETURNING id; VACUUM INTO 'file'",
]

const SQL_TOKENS = [
  '/*',
  '*/',
  '--',
  "'",
  '"',
  '`',
  '[',
  ']',
  ';',
  '\n',
  'BEGIN',
  'END;',
  'CREATE TRIGGER ',
  '$a::b(',
  ')',
  '?9',
  '\0',
  '\ufeff',
  'PRAGMA ',
  'EXPLAIN ',
  '=',
  '(',
]

export const textTargets: readonly FuzzTarget[] = [
  {
    name: 'node-config',
    codes: ['INVALID_OPTION'],
    // The YAML library keeps a node with ranges and comments for each scalar of two bytes.
    bound: { perByte: 6_000, constant: 16 * 1024 * 1024 },
    weight: 1,
    corpus: () => CONFIGS.map((text) => Buffer.from(text)),
    tokens: YAML_TOKENS.map((text) => Buffer.from(text)),
    run(input) {
      const config = parseNodeConfig(input.toString(), 'fuzz.yml', '/etc')
      promise(config.dataDir === undefined || config.dataDir.startsWith('/'), 'paths are absolute')
    },
  },
  {
    name: 'sql-text',
    codes: [],
    bound: { perByte: 600, constant: 2 * 1024 * 1024 },
    weight: 3,
    corpus: () => SQL.map((text) => Buffer.from(text)),
    tokens: SQL_TOKENS.map((text) => Buffer.from(text)),
    run(input) {
      const text = input.toString()
      for (const statement of splitStatements(text))
        promise(statement.length <= text.length, 'a statement is a part of the text')
      classifyStatement(text)
      classifyRead(text)
    },
  },
]
