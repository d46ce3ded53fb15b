/**
 * Who may import whom.
 *
 * The rooms of core stand on floors; a room imports downwards only. What is allowed within a floor is listed by name, so that
 * a new arrow is a decision somebody makes here and not an accident. Every foreign thing has one doorkeeper.
 *
 * Tests (`*.test.ts`, and what they share in `test-support/`) may build what they need from any room and may open files themselves, so the rules leave them out.
 * TypeScript is parsed by @swc/core, which also tells type-only imports apart.
 */

const { Visitor } = require('@swc/core/Visitor.js')

// The visitor that dependency-cruiser derives its own from does not know `using` and gives up on a file that has it.
const visitStatement = Visitor.prototype.visitStatement
Visitor.prototype.visitStatement = function visitStatementOrUsing(statement) {
  if (statement.type !== 'UsingDeclaration') return visitStatement.call(this, statement)
  this.visitVariableDeclarators(statement.decls)
  return statement
}

const SRC = 'packages/core/src'
const TEST = '([.]test[.]ts$|/test-support/)'

/** From the ground up. A room missing here is found by the rule `unknown-room`. */
const FLOORS = [
  ['base'],
  ['position', 'request', 'errors', 'diagnostics', 'sqlite-format', 'ltx', 'stream-format'],
  ['files', 'sqlite', 'log', 'snapshot'],
  ['write', 'capture', 'apply', 'divergence'],
  ['lease', 'leadership', 'peer', 'forward', 'stream', 'backup'],
  ['engine'],
  ['database'],
  ['procedure', 'pubsub', 'cache'],
  ['options', 'node'],
]

/** Room → rooms of its own floor that it may import. */
const WITHIN_FLOOR = {
  position: ['errors', 'request'],
  request: ['errors', 'position'],
  diagnostics: ['errors', 'position', 'request'],
  'sqlite-format': ['errors', 'position'],
  ltx: ['errors', 'position', 'sqlite-format'],
  'stream-format': ['errors', 'position', 'request'],
  sqlite: ['files'],
  log: ['files'],
  snapshot: ['files'],
  leadership: ['lease'],
  forward: ['peer', 'leadership'],
  cache: ['pubsub'],
  node: ['options'],
}

/** A foreign module → the only rooms of core (or files of other packages) that may import it, and whether types may travel further. */
const DOORKEEPERS = [
  { name: 'better-sqlite3', module: 'better-sqlite3', keeper: `${SRC}/sqlite/`, typesMayTravel: true },
  { name: 'node-fs', module: '^(node:)?fs(/promises)?$', keeper: `${SRC}/files/` },
  { name: 'fs-native-extensions', module: 'fs-native-extensions', keeper: `${SRC}/files/` },
  { name: 'lz4', module: 'lz4-napi', keeper: `${SRC}/ltx/` },
  { name: 'grpc', module: '@grpc/', keeper: `${SRC}/(peer/|lease/etcd-)` },
  { name: 'node-http', module: '^(node:)?(http|https|http2|net|tls)$', keeper: `${SRC}/stream/` },
]

const room = (name) => `^${SRC}/${name}/`
const rooms = (names) => `^${SRC}/(${names.join('|')})/`

function floorRules() {
  return FLOORS.flatMap((floor, index) =>
    floor.map((name) => {
      const above = FLOORS.slice(index + 1).flat()
      const beside = floor.filter((other) => other !== name && !(WITHIN_FLOOR[name] ?? []).includes(other))
      return {
        name: `floor-${index}-${name}`,
        comment: `${name} imports the floors below it${WITHIN_FLOOR[name] ? ` and ${WITHIN_FLOOR[name].join(', ')}` : ''}, nothing else`,
        severity: 'error',
        from: { path: room(name), pathNot: TEST },
        to: { path: `^${SRC}/((${[...above, ...beside].join('|')})/|[^/]+[.]ts$)` },
      }
    }),
  )
}

function doorkeeperRules() {
  return DOORKEEPERS.map(({ name, module, keeper, typesMayTravel }) => ({
    name: `doorkeeper-${name}`,
    comment: `only ${keeper} may import it`,
    severity: 'error',
    from: { path: `^${SRC}/`, pathNot: [`^${keeper}`, TEST] },
    to: {
      path: module.startsWith('^') ? module : `(^|node_modules/)${module}`,
      ...(typesMayTravel ? { dependencyTypesNot: ['type-only'] } : {}),
    },
  }))
}

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...floorRules(),
    ...doorkeeperRules(),
    {
      name: 'steps-are-strangers',
      comment: 'write, capture and apply do not know each other; stream knows none of them (types neither)',
      severity: 'error',
      from: { path: rooms(['stream']), pathNot: TEST },
      to: { path: rooms(['write', 'capture', 'apply']) },
    },
    {
      name: 'engines-are-strangers',
      severity: 'error',
      from: { path: `^${SRC}/engine/([^/]+)/`, pathNot: TEST },
      to: { path: `^${SRC}/engine/([^/]+)/`, pathNot: `^${SRC}/engine/$1/` },
    },
    {
      name: 'services-do-not-reach-through',
      comment: 'what people hold in their hands talks to the engine',
      severity: 'error',
      from: { path: rooms(['database', 'procedure', 'pubsub', 'cache']), pathNot: TEST },
      to: { path: rooms(['stream', 'log', 'ltx', 'lease', 'capture', 'apply']) },
    },
    {
      name: 'unknown-room',
      comment: 'a new room needs a place in FLOORS',
      severity: 'error',
      from: { path: '^packages/' },
      to: { path: `^${SRC}/[^/]+/`, pathNot: rooms(FLOORS.flat()) },
    },
    {
      name: 'core-knows-no-other-package',
      severity: 'error',
      from: { path: '^packages/core/' },
      to: { path: '^packages/(server|cli)/' },
    },
    { name: 'server-does-not-know-cli', severity: 'error', from: { path: '^packages/server/' }, to: { path: '^packages/cli/' } },
    {
      name: 'core-by-its-doors',
      comment: '@litefleet/core, @litefleet/core/peer, @litefleet/core/testing',
      severity: 'error',
      from: { path: '^(packages/(server|cli)|examples|bench)/', pathNot: TEST },
      to: { path: `^${SRC}/`, pathNot: `^${SRC}/(index|peer|testing)[.]ts$` },
    },
    {
      name: 'server-by-its-door',
      severity: 'error',
      from: { path: '^(packages/cli|examples|bench)/', pathNot: TEST },
      to: { path: '^packages/server/src/', pathNot: '^packages/server/src/index[.]ts$' },
    },
    {
      name: 'server-keeps-yaml-and-fastify',
      severity: 'error',
      from: { path: '^packages/(core|cli)/', pathNot: TEST },
      to: { path: '(^|node_modules/)(yaml|fastify|@fastify|prom-client)(/|$)' },
    },
    {
      name: 'no-cycles',
      comment: 'types may refer to each other; values may not',
      severity: 'error',
      from: { path: '^packages/' },
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no-test-in-source',
      severity: 'error',
      from: { path: '^packages/', pathNot: TEST },
      to: { path: [TEST, '^test/', '(^|node_modules/)(vitest|fast-check)(/|$)'] },
    },
    { name: 'resolvable', severity: 'error', from: { path: '^packages/' }, to: { couldNotResolve: true } },
    {
      name: 'declared',
      comment: 'every package that is imported stands in the package.json of the importer',
      severity: 'error',
      from: { path: '^packages/', pathNot: TEST },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
  ],
  options: {
    // Type-only imports are seen too: swc reads the source, not the output.
    parser: 'swc',
    // Symbolic links of the workspace resolve to the sources, so `@litefleet/core` is seen as the door it is.
    preserveSymlinks: false,
    combinedDependencies: false,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)(dist|generated)/' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
      extensions: ['.ts', '.js', '.cjs', '.mjs', '.json', '.node'],
    },
    reporterOptions: { text: { highlightFocused: false } },
  },
}
