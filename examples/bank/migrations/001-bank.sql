-- Five customers with a credit limit, and their transactions. All amounts are integers, in cents.
-- The rules live in the database: whoever writes, from whichever node, passes the same trigger.

CREATE TABLE customers (
  id           INTEGER PRIMARY KEY,
  credit_limit INTEGER NOT NULL CHECK (credit_limit >= 0),
  balance      INTEGER NOT NULL DEFAULT 0,
  CHECK (balance >= -credit_limit)
);

CREATE TABLE transactions (
  -- The order of the statement is the order of ids: two transactions may share a millisecond.
  id          INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers (id),
  amount      INTEGER NOT NULL CHECK (amount > 0),
  kind        TEXT NOT NULL CHECK (kind IN ('c', 'd')),
  description TEXT NOT NULL CHECK (length(description) BETWEEN 1 AND 10),
  created_at  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE INDEX transactions_by_customer ON transactions (customer_id, id DESC);

-- Before the insert, so that a refused transaction leaves nothing behind.
CREATE TRIGGER transactions_move_balance BEFORE INSERT ON transactions
BEGIN
  SELECT RAISE(ABORT, 'no such customer')
   WHERE NOT EXISTS (SELECT 1 FROM customers WHERE id = NEW.customer_id);
  SELECT RAISE(ABORT, 'the credit limit would be exceeded')
    FROM customers
   WHERE id = NEW.customer_id AND NEW.kind = 'd' AND balance - NEW.amount < -credit_limit;
  UPDATE customers
     SET balance = balance + CASE NEW.kind WHEN 'c' THEN NEW.amount ELSE -NEW.amount END
   WHERE id = NEW.customer_id;
END;
