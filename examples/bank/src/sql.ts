/** The bank's statements. The same text runs on the primary inside a transaction and on any node's own copy. */

export const INSERT_TRANSFER =
  'INSERT INTO transactions (customer_id, amount, kind, description) VALUES (@customer, @amount, @kind, @description)'

export const SELECT_CUSTOMER = 'SELECT credit_limit AS limite, balance AS saldo FROM customers WHERE id = ?'

export const SELECT_LAST_TEN = `
  SELECT amount AS valor, kind AS tipo, description AS descricao, created_at AS realizada_em
    FROM transactions WHERE customer_id = ? ORDER BY id DESC LIMIT 10`
