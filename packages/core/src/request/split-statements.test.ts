import { describe, expect, it } from 'vitest'
import { splitStatements } from './split-statements.ts'

describe('splitStatements', () => {
  it('splits at semicolons and drops empty statements', () => {
    expect(splitStatements('CREATE TABLE a (b);;\n ; INSERT INTO a VALUES (1)')).toEqual([
      'CREATE TABLE a (b)',
      'INSERT INTO a VALUES (1)',
    ])
  })

  it('leaves semicolons in strings, names and comments alone', () => {
    const sql = `INSERT INTO a VALUES (';') -- ; not here\n; SELECT "x;y", [p;q] /* ; */ FROM a;`
    expect(splitStatements(sql)).toEqual([
      `INSERT INTO a VALUES (';') -- ; not here`,
      'SELECT "x;y", [p;q] /* ; */ FROM a',
    ])
  })

  it('keeps a trigger whole, with CASE … END and several statements inside', () => {
    const trigger = `CREATE TRIGGER t BEFORE INSERT ON a BEGIN
      SELECT CASE WHEN new.b < 0 THEN RAISE(ABORT, 'no; never') END;
      UPDATE a SET b = 1;
    END`
    expect(
      splitStatements(`${trigger};\nCREATE TEMP TRIGGER u AFTER DELETE ON a BEGIN SELECT 1; END; SELECT 2`),
    ).toEqual([trigger, 'CREATE TEMP TRIGGER u AFTER DELETE ON a BEGIN SELECT 1; END', 'SELECT 2'])
  })

  it('answers nothing for nothing', () => {
    expect(splitStatements(' -- only a comment\n')).toEqual([])
  })
})
