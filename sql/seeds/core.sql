-- seed: core
-- environments: any
-- repeatable: yes
--
-- Roles, modules and what each role may do where: what the application cannot start without.
-- Belongs in every environment, production included; it has one size.
--
-- Loading twice changes nothing, and neither does loading over what an administrator has changed
-- since: a row that exists stays as it is (ON CONFLICT DO NOTHING). Keys derive from the codes,
-- times are fixed, so two databases get the same rows.
--
--   psql -X -v ON_ERROR_STOP=1 --single-transaction -f sql/seeds/core.sql

SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SET LOCAL search_path = public, pg_temp;
SET LOCAL clinic.audit = 'off';
SET LOCAL clinic."user" = '';

INSERT INTO role_master
    (role_id, code, name, description, is_system, created_at, updated_at, created_by, updated_by)
SELECT md5('role_master:' || code)::uuid, code, name, description, is_system,
       '2026-01-01 00:00+00', '2026-01-01 00:00+00', 'seed', 'seed'
FROM (VALUES
    ('system_admin',   'System administrator',   'Runs the application for all hospitals',       true),
    ('hospital_admin', 'Hospital administrator', 'Manages one hospital: people, prices, settings', true),
    ('doctor',         'Doctor',                 'Sees patients, decides and prescribes',        false),
    ('nurse',          'Nurse',                  'Prepares consultations and takes measurements', false),
    ('therapist',      'Therapist',              'Treats patients whom a doctor has referred',   false),
    ('receptionist',   'Receptionist',           'Registers patients and keeps the calendar',    false),
    ('accountant',     'Accountant',             'Writes invoices and books payments',           false),
    ('staff',          'Staff',                  'What everybody who works here may see',        true),
    ('patient',        'Patient',                'Sees their own appointments and invoices',     true)
) AS v (code, name, description, is_system)
ON CONFLICT DO NOTHING;

-- Parents come first in the list; the foreign key is checked at the end of the statement anyway.
INSERT INTO module_master
    (module_id, parent_id, code, name, sort_order, created_at, updated_at, created_by, updated_by)
SELECT md5('module_master:' || code)::uuid, md5('module_master:' || parent)::uuid, code, name,
       sort_order, '2026-01-01 00:00+00', '2026-01-01 00:00+00', 'seed', 'seed'
FROM (VALUES
    (10, NULL,             'dashboard',      'Dashboard'),
    (20, NULL,             'patients',       'Patients'),
    (30, NULL,             'appointments',   'Appointments'),
    (40, NULL,             'consultations',  'Consultations'),
    (41, 'consultations',  'prescriptions',  'Prescriptions'),
    (50, NULL,             'billing',        'Billing'),
    (51, 'billing',        'invoices',       'Invoices'),
    (52, 'billing',        'reports',        'Reports'),
    (60, NULL,             'administration', 'Administration'),
    (61, 'administration', 'staff',          'Staff'),
    (62, 'administration', 'users',          'Users'),
    (63, 'administration', 'roles',          'Roles'),
    (64, 'administration', 'audit',          'Audit log'),
    (65, 'administration', 'settings',       'Settings')
) AS v (sort_order, parent, code, name)
ON CONFLICT DO NOTHING;

-- Rights: v view, a add, e edit, d delete, x export. Roles and modules are found by their codes,
-- so that ones which an administrator made by hand under these codes serve as well.
INSERT INTO role_module_access
    (access_id, role_id, module_id, can_view, can_add, can_edit, can_delete, can_export,
     created_at, updated_at, created_by, updated_by)
SELECT md5('role_module_access:' || r.code || ':' || m.code)::uuid, r.role_id, m.module_id,
       rights LIKE '%v%', rights LIKE '%a%', rights LIKE '%e%', rights LIKE '%d%', rights LIKE '%x%',
       '2026-01-01 00:00+00', '2026-01-01 00:00+00', 'seed', 'seed'
FROM (VALUES
    ('system_admin',   '*',             'vaedx'),
    ('hospital_admin', 'dashboard',     'v'),
    ('hospital_admin', 'patients',      'vaedx'),
    ('hospital_admin', 'appointments',  'vaedx'),
    ('hospital_admin', 'consultations', 'v'),
    ('hospital_admin', 'billing',       'vaedx'),
    ('hospital_admin', 'invoices',      'vaedx'),
    ('hospital_admin', 'reports',       'vx'),
    ('hospital_admin', 'administration','v'),
    ('hospital_admin', 'staff',         'vaed'),
    ('hospital_admin', 'users',         'vaed'),
    ('hospital_admin', 'roles',         'v'),
    ('hospital_admin', 'audit',         'vx'),
    ('hospital_admin', 'settings',      've'),
    ('doctor',         'dashboard',     'v'),
    ('doctor',         'patients',      've'),
    ('doctor',         'appointments',  'vae'),
    ('doctor',         'consultations', 'vaex'),
    ('doctor',         'prescriptions', 'vaedx'),
    ('nurse',          'dashboard',     'v'),
    ('nurse',          'patients',      've'),
    ('nurse',          'appointments',  've'),
    ('nurse',          'consultations', 'vae'),
    ('nurse',          'prescriptions', 'v'),
    ('therapist',      'dashboard',     'v'),
    ('therapist',      'patients',      'v'),
    ('therapist',      'appointments',  'vae'),
    ('therapist',      'consultations', 'vae'),
    ('receptionist',   'dashboard',     'v'),
    ('receptionist',   'patients',      'vae'),
    ('receptionist',   'appointments',  'vaed'),
    ('receptionist',   'invoices',      'va'),
    ('accountant',     'dashboard',     'v'),
    ('accountant',     'billing',       'vaex'),
    ('accountant',     'invoices',      'vaex'),
    ('accountant',     'reports',       'vx'),
    ('staff',          'dashboard',     'v'),
    ('staff',          'staff',         'v'),
    ('patient',        'appointments',  'va'),
    ('patient',        'prescriptions', 'v'),
    ('patient',        'invoices',      'v')
) AS v (role, module, rights)
JOIN role_master r ON r.code = v.role
JOIN module_master m ON m.code = v.module OR v.module = '*'
ON CONFLICT DO NOTHING;
