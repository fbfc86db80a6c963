-- What a bad day does to a database: the demo runs this, and takes it back.
DROP TABLE prescriptions;
DELETE FROM invoices;
UPDATE patients SET first_name = 'oops';
