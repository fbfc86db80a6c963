-- seed: clinic
-- environments: unprotected
-- scales: small=2 medium=20 large=280
-- needs: core
-- repeatable: yes
--
-- A clinic to look at and to test with: the scale is the number of hospitals, each with about 5
-- thousand rows of its own. All people are made up, phone numbers are from ranges kept free for
-- fiction, mail goes to example.org. Every account has the password "clinic-demo": never for an
-- environment that holds real data. Needs the seed core.
--
--   psql -X -v ON_ERROR_STOP=1 -v scale=2 --single-transaction -f sql/seeds/clinic.sql
--
-- The same rows every time, on every server: each value derives from md5(table, hospital, number)
-- and a fixed day; no clock, no random(), no locale (translate() instead of lower(), no sorting
-- of text), no time zone but UTC. A hospital's rows do not depend on the scale, so a larger scale
-- loaded over a smaller one gives what the larger one alone gives.
--
-- Loading twice changes nothing: a key that is there is left alone.
--
-- Triggers are on, as they are for the application; only the audit log is switched off, since a
-- seed is not something that somebody did. (What audit_logs gets here is seed data itself.)

\if :{?scale}
\else
    \set scale 2
\endif

-- how much of everything one hospital has
\set branches 3
\set doctors 10
\set staff 30
\set patients 400
\set visits 950
\set logins 600
\set sessions 120

SET LOCAL client_min_messages = warning;
SET LOCAL client_encoding = 'UTF8';
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO, YMD';
SET LOCAL search_path = public, pg_temp;
SET LOCAL clinic.audit = 'off';
SET LOCAL clinic."user" = '';
-- hash joins with the word lists, no compilation of queries that run once
SET LOCAL work_mem = '64MB';
SET LOCAL jit = off;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM role_master WHERE code = 'patient') THEN
        RAISE EXCEPTION 'roles are missing, load the seed core first';
    END IF;
END
$$;

-- The digest that all values of a row derive from: as its key, and as sixteen bytes. (Everything
-- is cast by hand and nothing is strict, so that the planner can put the bodies in place.)
CREATE OR REPLACE FUNCTION pg_temp.id(kind text, hospital int, number int) RETURNS uuid
    LANGUAGE sql IMMUTABLE
    RETURN md5(kind || ':' || hospital::text || ':' || number::text)::uuid;
CREATE OR REPLACE FUNCTION pg_temp.bytes(kind text, hospital int, number int) RETURNS bytea
    LANGUAGE sql IMMUTABLE
    RETURN decode(md5(kind || ':' || hospital::text || ':' || number::text), 'hex');

-- two bytes of it, a number below 65536
CREATE OR REPLACE FUNCTION pg_temp.pair(bytes bytea, place int) RETURNS int
    LANGUAGE sql IMMUTABLE
    RETURN get_byte(bytes, place) * 256 + get_byte(bytes, place + 1);

-- one of a list of words with bars between them
CREATE OR REPLACE FUNCTION pg_temp.one(words text, number int) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN (string_to_array(words, '|'))[1 + number % cardinality(string_to_array(words, '|'))];

-- letters for a reference or a batch, not the digits of which the row's key is made: repeated,
-- they would take no room in a compressed backup
CREATE OR REPLACE FUNCTION pg_temp.code(bytes bytea) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN translate(encode(bytes, 'hex'), '0123456789abcdef', 'ABCDEFGHJKLMNPRS');

-- a phone number from the ranges that are kept free for fiction
CREATE OR REPLACE FUNCTION pg_temp.phone(number int) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN '+49 ' || pg_temp.one('30 23125|40 66969|69 90009|89 99998|221 4710', number / 1000)
        || ' ' || lpad((number % 1000)::text, 3, '0');


-- Words -------------------------------------------------------------------------------------------
-- Letters beyond ASCII are all of Latin-1, so that databases in other encodings can hold them.

CREATE TEMP TABLE word (kind text, i int, word text, plain text) ON COMMIT DROP;

INSERT INTO word (kind, i, word, plain)
SELECT kind, (i - 1)::int, w,
       translate(w, 'ABCDEFGHIJKLMNOPQRSTUVWXYZáàâäãåçéèêëíîïñóôöøúüßÅÉÖÄÜ''',
                    'abcdefghijklmnopqrstuvwxyzaaaaaaceeeeiiinoooouusaeoau')
FROM (VALUES
    ('female', 'Anna Maria Sofia Emma Laura Julia Lea Hannah Clara Charlotte Zoë Chloé Inés Lucía Elena Marta'
        ' Ingrid Astrid Freja Signe Maja Olivia Amelia Grace Ruby Alice Martha Ida Greta Johanna Katharina'
        ' Theresa Ursula Renate Monika Sabine Claudia Susanne Petra Birgit Francesca Giulia Chiara Beatriz'
        ' Joana Catarina Fatima Leyla Aylin Yasmin Priya Ananya Mei Yuki Naomi Ruth Esther Miriam Nadia'
        ' Irina Olga Daria Zofia Agnieszka'),
    ('male', 'Lukas Leon Paul Jonas Felix Maximilian Noah Elias Anton Emil Jakob Oskar Karl Friedrich Jürgen'
        ' Günther Björn Lars Søren Nils Erik Magnus Oliver George Harry Arthur Henry Samuel Thomas Daniel'
        ' Michael Stefan Andreas Markus Christian Wolfgang Dieter Manfred Horst José Andrés Raúl Miguel'
        ' Diego Pablo Luís João Tiago Marco Luca Matteo Giovanni Pierre François Étienne Mehmet Emre Ali'
        ' Omar Arjun Rohan Wei Kenji Ivan'),
    ('last', 'Schmidt Müller Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Schäfer Koch Bauer'
        ' Richter Klein Wolf Schröder Neumann Schwarz Zimmermann Braun Krüger Hofmann Hartmann Lange Krause'
        ' Lehmann Köhler Herrmann König Walter Mayer Huber Kaiser Fuchs Peters Lang Scholz Möller Weiß Jung'
        ' Hahn Schubert Vogel Friedrich Keller Günther Frank Berger Winkler Roth Beck Lorenz Baumann Franke'
        ' Albrecht Schuster Simon Ludwig Böhm Winter Kraus Martin Schumacher Krämer Vogt Stein Jäger Otto'
        ' Sommer Groß Seidel Heinrich Brandt Haas Schreiber Graf Schulte Dietrich Ziegler Kuhn Kühn Pohl'
        ' Engel Horn Busch Bergmann Thomas Voigt Sauer Arnold Wolff Pfeiffer García Fernández López Núñez'
        ' Silva Santos Rossi Ferrari Dubois Lefèvre Jensen Sørensen Åkesson Lindström Novak Kowalski Nowak'
        ' Yilmaz Demir Öztürk Khan Patel Sharma Nguyen Tanaka Smith Jones Taylor Brown Evans Walker O''Brien'
        ' MacLeod Murphy'),
    ('street', 'Hauptstraße Schulstraße Gartenstraße Bahnhofstraße Dorfstraße Bergstraße Birkenweg Lindenallee'
        ' Kirchplatz Waldweg Ringstraße Mühlenweg Rosenweg Wiesenstraße Amselweg Parkallee Marktplatz'
        ' Goethestraße Schillerstraße Lessingstraße Mozartstraße Buchenweg Feldstraße Uferweg Seestraße'
        ' Blumenstraße Talstraße Sonnenweg Eichenallee Tannenweg Hafenstraße Brunnengasse'),
    ('city', 'Altenfeld Bergheim Birkenau Buchholz Eichwalde Falkensee Freudental Grünau Hochdorf Klosterfelde'
        ' Lindental Mühlbach Neukirchen Oberried Rosenheim Seebach Steinfurt Talheim Unterwald Waldkirch'
        ' Weißenfels Wiesenthal Winterberg Zellhausen')
) AS v (kind, words), LATERAL unnest(string_to_array(words, ' ')) WITH ORDINALITY AS w (w, i);

-- Phrases: many thousand notes in the short style of a busy doctor, of which each row takes some.
-- They are made of single words out of long lists: whole sentences out of short lists would
-- compress like no real text does.
CREATE TEMP TABLE phrase (kind text, i int, phrase text) ON COMMIT DROP;

\set site '''knee|shoulder|wrist|ankle|hip|elbow|heel|forearm|thigh|calf|neck|scalp|cheek|forehead|eyelid|axilla|groin|flank|sternum|thumb|palm|toe|shin|earlobe|jaw|instep|clavicle|buttock|navel|temple|nostril|nape'''
\set disease '''eczema|psoriasis|rosacea|urticaria|acne|impetigo|scabies|vitiligo|gout|arthrosis|tendinopathy|bursitis|lumbago|sciatica|scoliosis|migraine|vertigo|neuralgia|bronchitis|pharyngitis|sinusitis|asthma|gastritis|reflux|colitis|hypertension|anaemia|hypothyroidism|rhinitis|cystitis|cellulitis|folliculitis'''
\set code '''L30.9|L40.0|L71.9|L50.9|L70.0|L01.0|B86|L80|M10.9|M19.9|M77.9|M71.9|M54.5|M54.3|M41.9|G43.0|R42|M79.2|J20.9|J02.9|J32.9|J45.9|K29.7|K21.9|K52.9|I10|D64.9|E03.9|J30.2|N30.0|L03.9|L73.9'''
\set drug1 '''Ab|Bel|Cor|Dex|Eb|Fen|Gal|Hex|Ib|Jul|Ket|Lor|Met|Nap|Oxi|Pran|Quin|Riv|Sal|Tam|Ult|Ver|Xyl|Zol'''
\set drug2 '''a|e|i|o|ada|ela|ino|opra|uva|axi|ole|imi'''
\set drug3 '''cin|dipin|fen|lol|mab|mycin|nib|pam|pril|prazol|sartan|statin|tidin|tropin|vir|zepam'''

INSERT INTO phrase (kind, i, phrase)
SELECT 'history', i, format('%s %s %s, %s %s, %s %s, %s %s %s. %s: %s, %s. %s %s, %s. ',
    pg_temp.one('Sudden|Gradual|Recurrent|Constant|Nightly|Seasonal|Sporadic|Fleeting|Persistent|Morning|Postprandial|Cyclic|Exertional|Postural|Episodic|First', get_byte(b, 0)),
    pg_temp.one('dull|burning|stabbing|throbbing|itching|pressing|cramping|pulsating|tight|sharp|mild|severe|moderate|diffuse|radiating|tingling', get_byte(b, 1)),
    pg_temp.one('pain|stiffness|swelling|numbness|rash|dryness|redness|tenderness|weakness|oedema|blisters|scaling|pruritus|bruising|warmth|tremor', get_byte(b, 2)),
    pg_temp.one('left|right|both|upper|lower|outer|inner|dorsal', get_byte(b, 3)),
    pg_temp.one(:site, get_byte(b, 4)),
    pg_temp.one('worse|better|unchanged|provoked|relieved|improving', get_byte(b, 5)),
    pg_temp.one('climbing|sitting|resting|kneeling|lifting|swimming|sunlight|cold|warmth|coffee|wine|stress|nights|mornings|running|typing|cycling|wool|nickel|pollen|dust|fasting|meals|coughing', get_byte(b, 6)),
    pg_temp.one('since|for|about|over', get_byte(b, 7)), 2 + get_byte(b, 8) % 29,
    pg_temp.one('days|weeks|months|hours', get_byte(b, 9)),
    pg_temp.one('Denies|No|Reports|Also|Without|Rarely', get_byte(b, 10)),
    pg_temp.one('fever|chills|sweats|cough|dyspnoea|palpitations|dizziness|nausea|vomiting|diarrhoea|weight loss|fatigue|insomnia|headache|syncope|tinnitus', get_byte(b, 11)),
    pg_temp.one('trauma|travel|allergies|tick bite|new shampoo|new shoes|insect sting|family cases|surgery|fracture|pregnancy|smoking|alcohol|night shifts|weight gain|depression', get_byte(b, 12)),
    pg_temp.one('Tried|Took|Stopped|Refuses|Tolerates|Uses', get_byte(b, 13)),
    pg_temp.one(:drug1, get_byte(b, 14)) || pg_temp.one(:drug2, get_byte(b, 2)) || pg_temp.one(:drug3, get_byte(b, 5)),
    pg_temp.one('no effect|little relief|some relief|good relief|nausea|unsure', get_byte(b, 15)))
FROM generate_series(0, 4095) i, LATERAL (SELECT pg_temp.bytes('history', 0, i) AS b OFFSET 0) d

UNION ALL
SELECT 'finding', i, format('%s %s: %s, %s, %s; %s %s, %s %s. %s %s, %s %s. ',
    pg_temp.one('Left|Right|Both|Upper|Lower|Outer|Inner|Dorsal', get_byte(b, 0)),
    pg_temp.one(:site, get_byte(b, 1)),
    pg_temp.one('warm|cool|dry|moist|pale|livid|reddened|swollen|tender|painless|scaly|crusted|firm|soft|mobile|fixed', get_byte(b, 2)),
    pg_temp.one('papules|plaques|vesicles|erosions|nodules|macules|wheals|fissures|haematoma|effusion|crepitus|atrophy|spasm|callus|ulcer|scar', get_byte(b, 3)),
    pg_temp.one('symmetrical|solitary|grouped|disseminated|blurred|sharply bounded|confluent|healing|fresh|linear|annular|unremarkable', get_byte(b, 4)),
    pg_temp.one('flexion|extension|rotation|abduction|diameter|circumference|pinch|grip', get_byte(b, 5)), 5 + get_byte(b, 6) % 130,
    pg_temp.one('CRP|TSH|HbA1c|ferritin|leucocytes|creatinine|ALT|GGT|potassium|sodium|glucose|LDL', get_byte(b, 7)), 1 + get_byte(b, 8) % 190,
    pg_temp.one('Lungs|Heart|Abdomen|Throat|Ears|Reflexes|Gait|Pulses', get_byte(b, 9)),
    pg_temp.one('clear|regular|quiet|soft|brisk|weak|steady|unsteady|normal|wheezing|obstructed|unchanged', get_byte(b, 10)),
    pg_temp.one('ultrasound|dermatoscopy|spirometry|ECG|swab|X-ray|smear|urine', get_byte(b, 11)),
    pg_temp.one('normal|pending|repeated|negative|positive|borderline|declined|unclear|improved|as before', get_byte(b, 12)))
FROM generate_series(0, 4095) i, LATERAL (SELECT pg_temp.bytes('finding', 0, i) AS b OFFSET 0) d

UNION ALL
SELECT 'assessment', i, format('%s %s, %s, %s, %s; %s %s, %s %s. ',
    pg_temp.one('Likely|Suspected|Known|Residual|Typical|Atypical|Incipient|Relapsing', get_byte(b, 0)),
    pg_temp.one(:disease, get_byte(b, 1)),
    pg_temp.one('mild|moderate|severe|chronic|acute|subacute|bilateral|localised', get_byte(b, 2)),
    pg_temp.one('improving|unchanged|worsening|stable|fluctuating|responding|resistant|resolving', get_byte(b, 3)),
    pg_temp.one('uncomplicated|occupational|hereditary|drug-related|allergic|viral|bacterial|mechanical|metabolic|idiopathic', get_byte(b, 4)),
    pg_temp.one('exclude|consider|less likely|not', get_byte(b, 5)),
    pg_temp.one(:disease, get_byte(b, 6)),
    pg_temp.one('rather|or|formerly|versus', get_byte(b, 7)),
    pg_temp.one(:disease, get_byte(b, 8)))
FROM generate_series(0, 4095) i, LATERAL (SELECT pg_temp.bytes('assessment', 0, i) AS b OFFSET 0) d

UNION ALL
SELECT 'plan', i, format('%s %s %s mg %s, %s d. %s %s; %s, %s. %s %s %s. ',
    pg_temp.one('Start|Continue|Reduce|Increase|Pause|Resume|Switch to|Add', get_byte(b, 0)),
    pg_temp.one(:drug1, get_byte(b, 1)) || pg_temp.one(:drug2, get_byte(b, 12)) || pg_temp.one(:drug3, get_byte(b, 13)),
    5 * (1 + get_byte(b, 2) % 100),
    pg_temp.one('1-0-0|0-0-1|1-0-1|1-1-1|0-1-0|as needed|weekly|alternate days', get_byte(b, 3)),
    3 + get_byte(b, 4) % 40,
    pg_temp.one('Order|Repeat|Discuss|Await|Send|Cancel', get_byte(b, 5)),
    pg_temp.one('blood count|ferritin|TSH|CRP|HbA1c|swab|biopsy|MRI|X-ray|ultrasound|patch test|prick test|spirometry|urine culture|ECG|lipids', get_byte(b, 6)),
    pg_temp.one('physiotherapy|compression|cooling|elevation|splint|bandage|emollient|sun protection|diary|stretching|insoles|diet|rest|hydration|inhaler training|wound care', get_byte(b, 7)),
    pg_temp.one('sick note|consent given|leaflet given|side effects explained|photo taken|vaccination due|letter to GP|interpreter booked|second opinion|no driving|no sports|weight control', get_byte(b, 8)),
    pg_temp.one('Review|Call|Return|Results', get_byte(b, 9)),
    1 + get_byte(b, 10) % 12,
    pg_temp.one('days|weeks|months', get_byte(b, 11)))
FROM generate_series(0, 4095) i, LATERAL (SELECT pg_temp.bytes('plan', 0, i) AS b OFFSET 0) d;

CREATE UNIQUE INDEX ON word (kind, i);
CREATE UNIQUE INDEX ON phrase (kind, i);
ANALYZE word, phrase;

SELECT count(*) FILTER (WHERE kind = 'female') AS females,
       count(*) FILTER (WHERE kind = 'male') AS males,
       count(*) FILTER (WHERE kind = 'last') AS lasts,
       count(*) FILTER (WHERE kind = 'street') AS streets,
       count(*) FILTER (WHERE kind = 'city') AS cities
FROM word \gset


-- Hospitals and branches --------------------------------------------------------------------------

INSERT INTO hospitals
    (hospital_id, code, name, license_no, email, phone, address, settings,
     created_at, updated_at, created_by, updated_by)
SELECT pg_temp.id('hospitals', h, 0),
       'H' || lpad(h::text, 4, '0'),
       pg_temp.one('Klinikum|Poliklinik|Hospital|Medical Centre', get_byte(b, 0)) || ' ' || city.word || ' ' || h,
       'LIC-' || h || '-' || pg_temp.pair(b, 1),
       'office@h' || h || '.example.org',
       pg_temp.phone(pg_temp.pair(b, 3)),
       street.word || ' ' || 1 + get_byte(b, 5) % 120 || ', ' || city.word,
       jsonb_build_object(
           'locale', pg_temp.one('de|en|fr', get_byte(b, 6)),
           'slot_minutes', 30,
           'reminders', get_byte(b, 7) % 2 = 0),
       '2026-01-01 00:00+00', '2026-01-01 00:00+00', 'seed', 'seed'
FROM generate_series(1, :scale) h
CROSS JOIN LATERAL (SELECT pg_temp.bytes('hospitals', h, 0) AS b OFFSET 0) d
JOIN word city ON city.kind = 'city' AND city.i = get_byte(b, 8) % :cities
JOIN word street ON street.kind = 'street' AND street.i = get_byte(b, 9) % :streets
ON CONFLICT (hospital_id) DO NOTHING;

INSERT INTO branches
    (branch_id, hospital_id, name, address, city, postal_code, phone, is_main,
     created_at, updated_at, created_by, updated_by)
SELECT pg_temp.id('branches', h, n),
       pg_temp.id('hospitals', h, 0),
       pg_temp.one('Main house|Outpatients|Day clinic', n - 1),
       street.word || ' ' || 1 + get_byte(b, 0) % 120,
       city.word,
       lpad((10000 + pg_temp.pair(b, 1))::text, 5, '0'),
       pg_temp.phone(pg_temp.pair(b, 3)),
       n = 1,
       '2026-01-01 00:00+00', '2026-01-01 00:00+00', 'seed', 'seed'
FROM generate_series(1, :scale) h
CROSS JOIN generate_series(1, :branches) n
CROSS JOIN LATERAL (SELECT pg_temp.bytes('branches', h, n) AS b OFFSET 0) d
JOIN word city ON city.kind = 'city' AND city.i = get_byte(b, 5) % :cities
JOIN word street ON street.kind = 'street' AND street.i = get_byte(b, 6) % :streets
ON CONFLICT (branch_id) DO NOTHING;


-- People ------------------------------------------------------------------------------------------
-- Names are needed twice, in staff or patients and in users, so they are made once.
--
-- Eight hospitals at a time, their rows taking turns as they would in real life. All hospitals
-- at a time would be truer still, but scatters the inserts over the whole of every index.

CREATE TEMP TABLE person ON COMMIT DROP AS
SELECT k.kind, h, n,
       CASE k.kind WHEN 'staff' THEN 900 ELSE 0 END + n AS account,
       pg_temp.id(k.kind, h, n) AS id, b, gender,
       first.word AS first_name, last.word AS last_name,
       first.plain || '.' || last.plain || '.' || h * 1000 + CASE k.kind WHEN 'staff' THEN 900 ELSE 0 END + n
           AS username
FROM generate_series(1, :scale) h
CROSS JOIN (SELECT 'staff' AS kind, n FROM generate_series(1, :staff) n
            UNION ALL
            SELECT 'patients', n FROM generate_series(1, :patients) n) k
CROSS JOIN LATERAL (SELECT pg_temp.bytes(k.kind, h, n) AS b OFFSET 0) d
CROSS JOIN LATERAL (SELECT pg_temp.one('female|male', get_byte(b, 0)) AS gender OFFSET 0) g
JOIN word first ON first.kind = gender
    AND first.i = get_byte(b, 1) % CASE gender WHEN 'female' THEN :females ELSE :males END
JOIN word last ON last.kind = 'last' AND last.i = get_byte(b, 2) % :lasts
ORDER BY h / 8, n, h;

CREATE UNIQUE INDEX ON person (h, account);
ANALYZE person;

INSERT INTO staff
    (staff_id, hospital_id, branch_id, employee_code, job, first_name, last_name, specialty,
     registration_no, email, phone, joined_on, left_on,
     created_at, updated_at, created_by, updated_by)
SELECT id,
       pg_temp.id('hospitals', h, 0),
       pg_temp.id('branches', h, 1 + n % :branches),
       'E' || lpad(n::text, 3, '0'),
       job,
       first_name,
       last_name,
       CASE WHEN job = 'doctor' THEN pg_temp.one('Dermatology|General medicine|Orthopaedics|Neurology|Internal medicine|Allergology', get_byte(b, 3)) END,
       CASE WHEN job = 'doctor' THEN 'R' || 100000 + pg_temp.pair(b, 4) END,
       username || '@h' || h || '.example.org',
       pg_temp.phone(pg_temp.pair(b, 6)),
       date '2012-01-01' + pg_temp.pair(b, 8) % 5000,
       -- never a doctor: they have appointments all year
       CASE WHEN job <> 'doctor' AND get_byte(b, 10) < 16 THEN date '2026-06-30' END,
       '2026-01-01 08:00+00', '2026-01-01 08:00+00', 'seed', 'seed'
FROM person
CROSS JOIN LATERAL (
    SELECT CASE WHEN n <= :doctors THEN 'doctor' WHEN n <= 18 THEN 'nurse' WHEN n <= 22 THEN 'therapist'
                WHEN n <= 26 THEN 'receptionist' ELSE 'administrator' END AS job) j
WHERE kind = 'staff'
ON CONFLICT (staff_id) DO NOTHING;

INSERT INTO patients
    (patient_id, hospital_id, branch_id, record_no, first_name, last_name, born_on, gender, blood_group,
     email, phone, contact, allergies, notes, created_at, updated_at, created_by, updated_by)
SELECT id,
       pg_temp.id('hospitals', h, 0),
       pg_temp.id('branches', h, 1 + n % :branches),
       'P' || lpad(n::text, 6, '0'),
       first_name,
       last_name,
       date '1931-01-01' + pg_temp.pair(b, 3) % 33000,
       CASE WHEN get_byte(b, 5) < 3 THEN 'other' ELSE gender END,
       CASE WHEN get_byte(b, 6) < 160 THEN pg_temp.one('A+|O+|B+|AB+|A-|O-|B-|AB-|O+|A+|O+|A+', get_byte(b, 6)) END,
       CASE WHEN get_byte(b, 7) < 220 THEN username || '@example.' || pg_temp.one('org|net|com', get_byte(b, 7)) END,
       pg_temp.phone(pg_temp.pair(b, 8)),
       jsonb_build_object(
           'street', street.word || ' ' || 1 + get_byte(b, 10) % 120,
           'city', city.word,
           'language', pg_temp.one('de|de|de|en|fr|tr|ar', get_byte(b, 11)),
           'insurance_no', 'A' || 100000000 + pg_temp.pair(b, 0) * 11117 + pg_temp.pair(b, 2),
           'next_of_kin', pg_temp.one('spouse|parent|child|sibling|neighbour', get_byte(b, 12)),
           'kin_name', kin.word || ' ' || last_name,
           'kin_phone', pg_temp.phone(pg_temp.pair(b, 13))),
       CASE WHEN get_byte(b, 14) < 40 THEN ARRAY[pg_temp.one('penicillin|pollen|latex|nickel|peanuts|house dust mites|ibuprofen|cat hair', get_byte(b, 14))]
            WHEN get_byte(b, 14) < 56 THEN ARRAY['pollen', pg_temp.one('apples|hazelnuts|birch|celery', get_byte(b, 15))]
            ELSE '{}' END,
       CASE WHEN get_byte(b, 15) < 128 THEN rtrim(note.phrase) END,
       created_at, created_at, 'seed', 'seed'
FROM person
CROSS JOIN LATERAL (
    SELECT timestamptz '2025-01-01 08:00+00' + pg_temp.pair(b, 4) * interval '8 minutes' AS created_at) c
JOIN word city ON city.kind = 'city' AND city.i = get_byte(b, 12) % :cities
JOIN word street ON street.kind = 'street' AND street.i = get_byte(b, 13) % :streets
JOIN word kin ON kin.kind = pg_temp.one('female|male', get_byte(b, 9)) AND kin.i = get_byte(b, 8) % least(:females, :males)
JOIN phrase note ON note.kind = 'history' AND note.i = pg_temp.pair(b, 14) % 4096
WHERE person.kind = 'patients'
ON CONFLICT (patient_id) DO NOTHING;


-- Accounts ----------------------------------------------------------------------------------------
-- All staff and the first 160 patients of a hospital. The hash is argon2id's of "clinic-demo".

\set with_account '(kind = ''staff'' OR n <= 160)'

INSERT INTO users
    (user_id, hospital_id, staff_id, patient_id, username, password_hash, failed_logins, last_login_at,
     is_active, created_at, updated_at, created_by, updated_by)
SELECT pg_temp.id('users', h, account),
       pg_temp.id('hospitals', h, 0),
       CASE kind WHEN 'staff' THEN id END,
       CASE kind WHEN 'patients' THEN id END,
       username,
       '$argon2id$v=19$m=19456,t=2,p=1$Y2xpbmljLWRlbW8tc2FsdA$pyWJuLNvMP7T4n9Bl9j1UM8PNkP0rtuHwZOs6YmkMug',
       CASE WHEN get_byte(b, 5) < 16 THEN get_byte(b, 5) % 4 ELSE 0 END,
       CASE WHEN get_byte(b, 6) < 200 THEN timestamptz '2026-07-01 06:00+00' + pg_temp.pair(b, 6) * interval '2 minutes' END,
       get_byte(b, 9) >= 8,
       '2026-01-02 08:00+00', '2026-01-02 08:00+00', 'seed', 'seed'
FROM person
WHERE :with_account
ON CONFLICT (user_id) DO NOTHING;

-- everybody who works here is staff, and what their job says
INSERT INTO user_role_mapping
    (mapping_id, user_id, role_id, created_at, updated_at, created_by, updated_by)
SELECT md5('user_role_mapping:' || h || ':' || account || ':' || r.code)::uuid,
       pg_temp.id('users', h, account), r.role_id,
       '2026-01-02 08:00+00', '2026-01-02 08:00+00', 'seed', 'seed'
FROM person
JOIN role_master r ON r.code = ANY (CASE
    WHEN kind = 'patients' THEN ARRAY['patient']
    WHEN n <= :doctors THEN ARRAY['staff', 'doctor']
    WHEN n <= 18 THEN ARRAY['staff', 'nurse']
    WHEN n <= 22 THEN ARRAY['staff', 'therapist']
    WHEN n <= 26 THEN ARRAY['staff', 'receptionist']
    WHEN n <= 28 THEN ARRAY['staff', 'accountant']
    ELSE ARRAY['staff', 'hospital_admin'] END)
WHERE :with_account
ON CONFLICT (mapping_id) DO NOTHING;

INSERT INTO user_sessions
    (session_id, user_id, token_hash, issued_at, expires_at, revoked_at, last_seen_at, ip_address,
     user_agent)
SELECT pg_temp.id('user_sessions', h, n),
       pg_temp.id('users', h, 901 + get_byte(b, 0) % :staff),
       md5('token:' || h || ':' || n) || encode(b, 'hex'),
       issued_at,
       issued_at + interval '12 hours',
       CASE WHEN get_byte(b, 1) < 180 THEN issued_at + get_byte(b, 1) * interval '2 minutes' END,
       issued_at,
       ('10.' || h % 256 || '.' || get_byte(b, 2) || '.' || get_byte(b, 3))::inet,
       pg_temp.one('Firefox 140 on Linux|Firefox 140 on Windows|Chrome 138 on Windows|Safari 18 on macOS|Safari 18 on iPad', get_byte(b, 4))
FROM generate_series(1, :scale) h
CROSS JOIN generate_series(1, :sessions) n
CROSS JOIN LATERAL (SELECT pg_temp.bytes('user_sessions', h, n) AS b OFFSET 0) d
CROSS JOIN LATERAL (
    SELECT timestamptz '2026-09-01 06:00+00' + pg_temp.pair(b, 5) * interval '40 seconds' AS issued_at) i
ON CONFLICT (session_id) DO NOTHING;

INSERT INTO login_history
    (login_id, user_id, username, attempted_at, failure, ip_address, user_agent)
SELECT pg_temp.id('login_history', d.h, d.n),
       pg_temp.id('users', d.h, account),
       username,
       timestamptz '2026-01-05 06:00+00' + pg_temp.pair(d.b, 0) * interval '6 minutes',
       CASE WHEN get_byte(d.b, 2) < 20 THEN pg_temp.one('wrong_password|wrong_password|wrong_password|locked|inactive', get_byte(d.b, 2)) END,
       ('10.' || d.h % 256 || '.' || get_byte(d.b, 3) || '.' || get_byte(d.b, 4))::inet,
       pg_temp.one('Firefox 140 on Linux|Firefox 140 on Windows|Chrome 138 on Windows|Safari 18 on macOS|Safari 18 on iPad', get_byte(d.b, 5))
FROM (SELECT h, n, pg_temp.bytes('login_history', h, n) AS b
      FROM generate_series(1, :scale) h, generate_series(1, :logins) n OFFSET 0) d
JOIN person p ON p.h = d.h
    AND p.account = CASE WHEN get_byte(d.b, 6) < 160 THEN 901 + get_byte(d.b, 7) % :staff
                         ELSE 1 + get_byte(d.b, 7) % 160 END
ON CONFLICT (login_id) DO NOTHING;


-- Visits: appointments and what becomes of them -----------------------------------------------------
-- Each doctor has one appointment every three days, so that no hour is given away twice. What lies
-- after the first of October 2026 is still to come.

CREATE TEMP TABLE visit ON COMMIT DROP AS
SELECT s.h, s.n, s.b,
       pg_temp.id('hospitals', s.h, 0) AS hospital_id,
       pg_temp.id('appointments', s.h, s.n) AS appointment_id,
       pg_temp.id('consultations', s.h, s.n) AS consultation_id,
       pg_temp.id('branches', s.h, 1 + s.doctor % :branches) AS branch_id,
       pg_temp.id('patients', s.h, 1 + pg_temp.pair(s.b, 0) % :patients) AS patient_id,
       doctor.id AS staff_id,
       doctor.username AS doctor_name,
       desk.username AS desk_name,
       starts_at,
       starts_at - interval '1 hour' * (2 + pg_temp.pair(s.b, 2) % 900) AS booked_at,
       CASE WHEN get_byte(s.b, 4) < 24 THEN 'cancelled'
            WHEN starts_at >= '2026-10-01 00:00+00' THEN 'booked'
            WHEN get_byte(s.b, 4) < 40 THEN 'no_show'
            ELSE 'completed' END AS status
FROM (SELECT h, n, b, 1 + n % :doctors AS doctor,
             timestamptz '2026-01-05 08:00+00' + n / :doctors * interval '3 days'
                 + get_byte(b, 5) % 18 * interval '30 minutes' AS starts_at
      FROM generate_series(1, :scale) h
      CROSS JOIN generate_series(1, :visits) n
      CROSS JOIN LATERAL (SELECT pg_temp.bytes('appointments', h, n) AS b OFFSET 0) d OFFSET 0) s
JOIN person doctor ON doctor.h = s.h AND doctor.account = 900 + s.doctor
JOIN person desk ON desk.h = s.h AND desk.account = 923 + get_byte(s.b, 6) % 4
ORDER BY s.h / 8, s.n, s.h;

ANALYZE visit;

INSERT INTO appointments
    (appointment_id, hospital_id, branch_id, patient_id, staff_id, starts_at, ends_at, status, channel,
     reason, created_at, updated_at, created_by, updated_by)
SELECT appointment_id, hospital_id, branch_id, patient_id, staff_id, starts_at,
       starts_at + interval '30 minutes',
       status,
       pg_temp.one('phone|phone|web|walk_in|referral', get_byte(b, 7)),
       pg_temp.one('First visit|Control|Results|Vaccination|Check-up|Pain|Skin change|Second opinion', get_byte(b, 8))
           || pg_temp.one('||, urgent|, brings old reports|, needs an interpreter|, wheelchair', get_byte(b, 9)) || '. '
           || phrase || 'Ref ' || pg_temp.code(substr(b, 9, 5)),
       booked_at,
       CASE WHEN status IN ('completed', 'no_show') THEN starts_at + interval '40 minutes' ELSE booked_at END,
       desk_name,
       CASE status WHEN 'completed' THEN doctor_name ELSE desk_name END
FROM visit
JOIN phrase ON kind = 'history' AND i = pg_temp.pair(b, 10) % 4096
ON CONFLICT (appointment_id) DO NOTHING;

INSERT INTO consultations
    (consultation_id, hospital_id, appointment_id, patient_id, staff_id, started_at, complaint, history,
     examination, assessment, plan, diagnosis_code, vitals, follow_up_on,
     created_at, updated_at, created_by, updated_by)
SELECT consultation_id, hospital_id, appointment_id, patient_id, staff_id,
       starts_at + get_byte(t, 0) % 15 * interval '1 minute',
       pg_temp.one('Pain|Itching|Rash|Headache|Back pain|Cough|Fatigue|Dizziness|Swelling|Control visit', get_byte(t, 1))
           || ' for ' || 2 + get_byte(t, 2) % 20 || pg_temp.one(' days| weeks', get_byte(t, 3))
           || pg_temp.one('|, worse than before|, better than before|, new', get_byte(t, 4)),
       h1.phrase || rtrim(h2.phrase),
       'BP ' || 100 + get_byte(t, 5) % 60 || '/' || 60 + get_byte(t, 6) % 40 || ' mmHg, pulse '
           || 52 + get_byte(t, 7) % 60 || ', weight ' || 48 + get_byte(t, 8) % 70 || '.'
           || get_byte(t, 9) % 10 || ' kg. ' || f1.phrase || f2.phrase || 'Lab ' || pg_temp.code(substr(t, 9, 6))
           || ': Hb ' || 9 + get_byte(p, 0) % 8 || '.' || get_byte(p, 1) % 10 || ', CRP ' || get_byte(p, 2) % 60
           || ', creatinine 0.' || 50 + get_byte(p, 3) % 50 || ', TSH ' || get_byte(p, 4) % 5 || '.' || 10 + get_byte(p, 5) % 90
           || ', glucose ' || 70 + get_byte(p, 6) % 90 || ', LDL ' || 60 + get_byte(p, 7) % 140
           || ', ferritin ' || 8 + get_byte(p, 8) || ', GGT ' || 8 + get_byte(p, 9) % 90
           || ', Na 1' || 30 + get_byte(p, 10) % 20 || ', K ' || 3 + get_byte(p, 11) % 3 || '.' || 10 + get_byte(p, 12) % 90
           || ', ALT ' || 9 + get_byte(p, 13) % 80 || ', leucocytes ' || 3 + get_byte(p, 14) % 12 || '.' || 10 + get_byte(p, 15) % 90 || '.',
       a1.phrase || rtrim(a2.phrase),
       p1.phrase || rtrim(p2.phrase),
       -- the code of the first assessment's disease: the same place in the other list
       pg_temp.one(:code, get_byte(pg_temp.bytes('assessment', 0, a1.i), 1)),
       jsonb_build_object(
           'systolic', 100 + get_byte(t, 5) % 60,
           'diastolic', 60 + get_byte(t, 6) % 40,
           'pulse', 52 + get_byte(t, 7) % 60,
           'spo2', 94 + get_byte(t, 10) % 6,
           'temperature', round((362 + get_byte(t, 11) % 20) / 10.0, 1)),
       CASE WHEN get_byte(t, 12) < 100 THEN (starts_at AT TIME ZONE 'UTC')::date + 14 + get_byte(t, 13) % 80 END,
       starts_at, starts_at + interval '40 minutes', doctor_name, doctor_name
FROM (SELECT *, pg_temp.bytes('consultations', h, n) AS t, pg_temp.bytes('phrases', h, n) AS p
      FROM visit WHERE status = 'completed' OFFSET 0) v
JOIN phrase h1 ON h1.kind = 'history'    AND h1.i = pg_temp.pair(p, 0) % 4096
JOIN phrase h2 ON h2.kind = 'history'    AND h2.i = pg_temp.pair(p, 2) % 4096
JOIN phrase f1 ON f1.kind = 'finding'    AND f1.i = pg_temp.pair(p, 4) % 4096
JOIN phrase f2 ON f2.kind = 'finding'    AND f2.i = pg_temp.pair(p, 6) % 4096
JOIN phrase a1 ON a1.kind = 'assessment' AND a1.i = pg_temp.pair(p, 8) % 4096
JOIN phrase a2 ON a2.kind = 'assessment' AND a2.i = pg_temp.pair(p, 10) % 4096
JOIN phrase p1 ON p1.kind = 'plan'       AND p1.i = pg_temp.pair(p, 12) % 4096
JOIN phrase p2 ON p2.kind = 'plan'       AND p2.i = pg_temp.pair(p, 14) % 4096
ON CONFLICT (consultation_id) DO NOTHING;

INSERT INTO prescriptions
    (prescription_id, hospital_id, consultation_id, line_no, medication, strength, frequency,
     duration_days, refills, instructions, created_at, updated_at, created_by, updated_by)
SELECT pg_temp.id('prescriptions', h, n * 4 + line), hospital_id, consultation_id, line,
       -- two lists in the same order
       pg_temp.one('Ibuprofen|Paracetamol|Cetirizine|Hydrocortisone cream|Urea lotion|Pantoprazole|Ramipril|Amoxicillin|Xylometazoline|Colecalciferol|Ferrous sulfate|Diclofenac gel', get_byte(r, 0)),
       pg_temp.one('400 mg|500 mg|10 mg|1 %|5 %|20 mg|5 mg|500 mg|0.1 %|1000 IU|100 mg|1 %', get_byte(r, 0)),
       pg_temp.one('1-0-0|0-0-1|1-0-1|1-1-1|as needed|every other day', get_byte(r, 1)),
       3 + get_byte(r, 2) % 60,
       CASE WHEN get_byte(r, 3) < 60 THEN 1 + get_byte(r, 3) % 5 ELSE 0 END,
       pg_temp.one('With food|Before meals|With plenty of water|Thinly on the affected skin|Not with alcohol|Not before driving', get_byte(r, 4))
           || pg_temp.one('|; stop if a rash appears|; finish the package|; at most 3 days without a break', get_byte(r, 5))
           || '. Lot ' || pg_temp.code(substr(r, 7, 4)),
       starts_at + interval '35 minutes', starts_at + interval '35 minutes', doctor_name, doctor_name
FROM (SELECT v.*, line, pg_temp.bytes('prescriptions', h, n * 4 + line) AS r
      FROM visit v, generate_series(1, 3) line
      WHERE status = 'completed' AND line <= get_byte(b, 10) % 4 OFFSET 0) v
ON CONFLICT (prescription_id) DO NOTHING;

INSERT INTO invoices
    (invoice_id, hospital_id, patient_id, consultation_id, invoice_no, issued_on, due_on, lines, net,
     tax, paid, status, created_at, updated_at, created_by, updated_by)
SELECT pg_temp.id('invoices', h, n), hospital_id, patient_id, consultation_id,
       1000000 + h * 1000 + n,
       issued_on, issued_on + 30,
       jsonb_build_array(
           jsonb_build_object('code', 10000 + pg_temp.pair(t, 10), 'amount', fee,
               'text', pg_temp.one('Consultation|Consultation, extended|Consultation, short', get_byte(t, 0))),
           jsonb_build_object('code', 10000 + pg_temp.pair(t, 12), 'amount', extra,
               'text', pg_temp.one('Laboratory|Dressing|Ultrasound|Dermatoscopy|Injection|X-ray', get_byte(t, 1)))),
       fee + extra,
       tax,
       CASE WHEN status = 'paid' THEN fee + extra + tax WHEN status = 'open' AND get_byte(t, 7) < 64 THEN fee ELSE 0 END,
       status,
       starts_at + interval '1 hour',
       starts_at + interval '1 hour' + CASE status WHEN 'paid' THEN get_byte(t, 8) % 40 ELSE 0 END * interval '1 day',
       desk_name, desk_name
FROM (SELECT h, n, hospital_id, patient_id, consultation_id, starts_at, desk_name,
             (starts_at AT TIME ZONE 'UTC')::date AS issued_on,
             pg_temp.bytes('invoices', h, n) AS t
      FROM visit WHERE status = 'completed' OFFSET 0) v
CROSS JOIN LATERAL (
    SELECT round((3500 + pg_temp.pair(t, 2) % 9000) / 100.0, 2) AS fee,
           round((900 + pg_temp.pair(t, 4) % 6000) / 100.0, 2) AS extra,
           CASE WHEN get_byte(t, 6) < 200 THEN 'paid' WHEN get_byte(t, 6) < 206 THEN 'void' ELSE 'open' END
               AS status OFFSET 0) m
CROSS JOIN LATERAL (
    SELECT CASE WHEN get_byte(t, 9) < 64 THEN round((fee + extra) * 0.19, 2) ELSE 0 END AS tax OFFSET 0) x
ON CONFLICT (invoice_id) DO NOTHING;

-- Numbers that are given do not move the sequence, and the application's next invoice must not
-- collide with them. Never backwards: the application may have been at work since.
DO $$
DECLARE
    sequence constant regclass := pg_get_serial_sequence('public.invoices', 'invoice_no');
    highest constant bigint := (SELECT max(invoice_no) FROM public.invoices);
BEGIN
    IF highest > coalesce(pg_sequence_last_value(sequence), 0) THEN
        PERFORM setval(sequence, highest);
    END IF;
END
$$;

-- What the audit log would hold of some of this, had it been entered by hand.
INSERT INTO audit_logs
    (audit_id, logged_at, hospital_id, table_name, row_id, action, actor, changed, old_row, new_row)
SELECT pg_temp.id('audit_logs', h, n), logged_at, hospital_id, 'appointments', appointment_id,
       'UPDATE', doctor_name,
       ARRAY['status', 'updated_at', 'updated_by'],
       same || jsonb_build_object('status', 'booked', 'updated_at', booked_at, 'updated_by', desk_name),
       same || jsonb_build_object('status', status, 'updated_at', logged_at, 'updated_by', doctor_name)
FROM (SELECT *, starts_at + interval '40 minutes' AS logged_at,
             jsonb_build_object(
                 'appointment_id', appointment_id, 'hospital_id', hospital_id, 'branch_id', branch_id,
                 'patient_id', patient_id, 'staff_id', staff_id, 'starts_at', starts_at,
                 'ends_at', starts_at + interval '30 minutes',
                 'created_at', booked_at, 'created_by', desk_name) AS same
      FROM visit WHERE n % 20 = 0 AND status <> 'booked' OFFSET 0) v
UNION ALL
SELECT pg_temp.id('audit_logs', h, n), created_at, c.hospital_id, 'consultations', consultation_id,
       'INSERT', created_by, NULL, NULL, to_jsonb(c)
FROM visit
JOIN consultations c USING (consultation_id)
WHERE n % 5 = 1
ON CONFLICT (audit_id, logged_at) DO NOTHING;
